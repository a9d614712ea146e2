//! The system around a node's files, played: a daemon that reads its configuration as the real one does.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use kwasm_installer::config::dump::Dump;
use kwasm_installer::host::mounts::Mounts;
use kwasm_installer::host::system::{CriStatus, Pod, Process, Running, SystemError, Unit};
use kwasm_installer::host::{Files, System};
use serde_json::{Map, Value as Json, json};

use crate::crio;
use crate::facts::Facts;
use crate::fake::{Mood, Shared};
use crate::loading::{self, Loaded};
use crate::points::Point;
use crate::rendering;

pub(crate) struct FakeSystem {
    pub(crate) root: PathBuf,
    pub(crate) facts: Facts,
    pub(crate) shared: Rc<Shared>,
    /// A real daemon that is asked instead of the played one.
    pub(crate) daemon: Option<PathBuf>,
}

impl FakeSystem {
    fn files(&self) -> Files {
        Files::below(&self.root)
    }

    fn load(&self, file: Option<&Path>) -> Result<Loaded, SystemError> {
        loading::load(&self.files(), &self.facts.version, file)
    }

    /// The handlers that the daemon would serve if it were started now.
    pub(crate) fn effective(&self) -> Result<Map<String, Json>, SystemError> {
        let handlers = self.dump()?.handlers();
        Ok(if self.facts.is_crio() { crio::served(&self.files(), handlers) } else { handlers })
    }

    /// The configuration that the daemon would have if it were started now.
    pub(crate) fn dump(&self) -> Result<Dump, SystemError> {
        let file = Path::new(&self.facts.loaded);
        let read = |printed: String| Dump::parse(&printed).unwrap();
        if !self.facts.is_crio() {
            return self.dumped(Some(file)).map(read);
        }
        let main = Some(file).filter(|file| self.files().metadata(file).is_some());
        let dump = self.crio_dumped(main, &file.with_file_name("crio.conf.d")).map(read)?;
        self.crio_built_in().map(|defaults| dump.completed(&read(defaults)))
    }

    fn dumped(&self, file: Option<&Path>) -> Result<String, SystemError> {
        match &self.daemon {
            Some(containerd) => loading::ask(&self.files(), &self.root, containerd, file),
            None => self.load(file).map(|loaded| loaded.dump()),
        }
    }

    fn crio_dumped(&self, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
        match &self.daemon {
            Some(crio) => crio::ask(&self.files(), crio, main, folder),
            None => crio::config(&self.files(), main, folder),
        }
    }

    fn crio_built_in(&self) -> Result<String, SystemError> {
        self.daemon.as_deref().map_or_else(|| Ok(crio::defaults()), crio::ask_defaults)
    }

    /// A command is a point.
    fn call(&self, call: &'static str) -> Result<(), SystemError> {
        let failed = |error: io::Error| SystemError::Start { command: call.to_owned(), reason: error.to_string() };
        self.shared.points.pass(Point::Call(call)).map_err(failed)
    }

    pub(crate) fn start(&self) -> Result<(), SystemError> {
        let failed =
            || SystemError::Command { command: format!("systemctl restart {}", self.unit()), words: "failed".into() };
        self.shared.restarts.set(self.shared.restarts.get() + 1);
        *self.shared.loaded.borrow_mut() = None;
        rendering::render(&self.files(), &self.facts);
        let handlers = self.effective()?;
        match self.shared.mood.get() {
            Mood::Broken => return Err(failed()),
            Mood::Refuses(handler) if handlers.contains_key(handler) => return Err(failed()),
            _ => {}
        }
        *self.shared.loaded.borrow_mut() = Some(handlers);
        Ok(())
    }

    fn is_outdated(&self) -> bool {
        let effective = self.effective().ok();
        rendering::is_outdated(&self.files(), &self.facts, effective.as_ref(), self.shared.loaded.borrow().as_ref())
    }

    fn unit(&self) -> String {
        self.facts.units.first().map(|unit| unit.name.clone()).unwrap_or_default()
    }
}

impl System for FakeSystem {
    fn units(&self, _: &[&str]) -> Result<Vec<Unit>, SystemError> {
        self.call("systemctl show")?;
        Ok(self.facts.units.clone())
    }

    fn running(&self, _: &[&str]) -> Vec<Running> {
        self.facts.running.clone()
    }

    fn mounts(&self) -> Mounts {
        Mounts::parse(&self.facts.mounts.join("\n"))
    }

    fn daemon_version(&self, program: &Path) -> Result<String, SystemError> {
        self.call("--version")?;
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(self.facts.versions.get(name).unwrap_or(&self.facts.version).clone())
    }

    fn config_dump(&self, _: &Path, file: Option<&Path>) -> Result<String, SystemError> {
        self.call("containerd config dump")?;
        self.dumped(file)
    }

    fn crio_config(&self, _: &Path, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
        self.call("crio config")?;
        self.crio_dumped(main, folder)
    }

    fn crio_defaults(&self, _: &Path) -> Result<String, SystemError> {
        self.call("crio config --default")?;
        self.crio_built_in()
    }

    fn try_out(&self, program: &Path, argument: &str, _: Duration) -> Result<(), SystemError> {
        self.call("try a program out")?;
        let command = || format!("{} {argument}", program.file_name().unwrap().display());
        match self.shared.mood.get() {
            Mood::CannotRun(words) => Err(SystemError::Command { command: command(), words: words.to_owned() }),
            _ => Ok(()),
        }
    }

    fn restart(&self, unit: &str) -> Result<(), SystemError> {
        assert!(self.facts.units.iter().any(|known| known.name == unit), "there is no unit {unit}");
        self.call("systemctl restart")?;
        self.start()?;
        // The other side of it: the daemon has been restarted, and nobody knows yet.
        self.call("after systemctl restart")
    }

    fn end_init(&self) -> Result<(), SystemError> {
        assert!(self.facts.units.is_empty(), "systemd is not to be ended");
        self.call("end process 1")?;
        self.start()?;
        self.call("after the end of process 1")
    }

    fn last_words(&self, _: &str) -> String {
        match self.call("journalctl") {
            Ok(()) => "level=fatal msg=\"as the daemon put it\"\n".into(),
            Err(error) => error.to_string(),
        }
    }

    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError> {
        let silent = || SystemError::Cri { socket: socket.to_owned(), reason: "connection refused".into() };
        self.shared.points.pass(Point::Call("CRI's status")).map_err(|_| silent())?;
        // k0s watches its drop-ins and restarts containerd without being asked.
        if rendering::watches(&self.facts) && self.is_outdated() {
            self.start().map_err(|_| silent())?;
        }
        let loaded = self.shared.loaded.borrow();
        let handlers = loaded.as_ref().ok_or_else(silent)?;
        let ready = !matches!(self.shared.mood.get(), Mood::CriDiesWith(handler) if handlers.contains_key(handler));
        let spelled = handlers.iter().map(|(name, table)| {
            let served = json!({
                "runtimeType": table["runtime_type"],
                "options": table.get("options").unwrap_or(&Json::Null),
                "PodAnnotations": table.get("pod_annotations").unwrap_or(&Json::Null),
            });
            (name.clone(), if self.facts.is_crio() { Json::Null } else { served })
        });
        Ok(CriStatus { ready, message: "as CRI put it".into(), network_ready: true, handlers: spelled.collect() })
    }

    fn pods(&self, socket: &str) -> Result<Vec<Pod>, SystemError> {
        let silent = |reason: &str| SystemError::Cri { socket: socket.to_owned(), reason: reason.to_owned() };
        self.shared.points.pass(Point::Call("CRI's pods")).map_err(|_| silent("connection refused"))?;
        match self.shared.mood.get() {
            Mood::HidesPods => Err(silent("Unimplemented: unknown method ListPodSandbox")),
            _ => Ok(self.shared.pods.borrow().clone()),
        }
    }

    fn processes_below(&self, folder: &Path) -> Vec<Process> {
        let processes = self.shared.processes.borrow();
        processes.iter().filter(|process| process.program.starts_with(folder)).cloned().collect()
    }

    fn pause(&self, _: Duration) {}
}
