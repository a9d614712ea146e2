//! A node in a folder: real files, and a containerd that reads them as the real one does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use kwasm_api::runtime::{Bundled, Host as HostSource, Preinstalled, Runtime, RuntimeKind, Source};
use kwasm_api::{Order, Report};
use kwasm_installer::artifacts::client::Limits;
use kwasm_installer::artifacts::network::Network;
use kwasm_installer::config::dump::Dump;
use kwasm_installer::failure::Stop;
use kwasm_installer::host::Files;
use kwasm_installer::host::system::{Pod, Process, SystemError};
use kwasm_installer::observe::{Host, Settings};
use kwasm_installer::render;
use kwasm_installer::run::{carry_out, prepare};
use kwasm_installer::status::Status;
use kwasm_installer::target::Target;
use serde_json::{Map, Value as Json};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::facts::Facts;
use crate::played::FakeSystem;
use crate::points::{Counted, Points};
use crate::program::program;
use crate::rendering;

/// What the daemon does when it is asked to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Healthy,
    /// Refuses to start while the configuration holds this handler.
    Refuses(&'static str),
    /// Starts, but CRI is not ready while the configuration holds this handler.
    CriDiesWith(&'static str),
    /// Never starts again.
    Broken,
    /// Programs that are fetched fail with these words.
    CannotRun(&'static str),
    /// CRI answers, but does not list its pods.
    HidesPods,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) points: Rc<Points>,
    pub(crate) mood: Cell<Mood>,
    pub(crate) restarts: Cell<u32>,
    pub(crate) loaded: RefCell<Option<Handlers>>,
    pub(crate) processes: RefCell<Vec<Process>>,
    pub(crate) pods: RefCell<Vec<Pod>>,
    log: RefCell<Vec<String>>,
}

/// Handlers with their tables.
pub(crate) type Handlers = Map<String, Json>;

/// All of a node that a run can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    pub(crate) disk: Disk,
    /// What the daemon that runs has loaded; `None`: it does not run.
    pub(crate) loaded: Option<Handlers>,
}

impl Moment {
    /// Without the files that only a run that was cut off leaves.
    pub(crate) fn without_drafts(&self) -> BTreeMap<String, String> {
        let mut shown = self.disk.shown();
        shown.retain(|name, _| !name.ends_with(".kwasm-new"));
        shown
    }
}

/// A node that a test works on.
pub(crate) struct Node {
    pub(crate) root: TempDir,
    bundle: TempDir,
    pub(crate) facts: Facts,
    shared: Rc<Shared>,
    pub(crate) force: bool,
    pub(crate) install_dir: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) network: Network,
    /// A real daemon that is asked instead of the played one.
    daemon: Option<PathBuf>,
}

impl Node {
    /// A copy of a tree of `tests/nodes`.
    pub(crate) fn of(tree: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nodes").join(tree);
        let node = Self::empty(Facts::of(tree));
        copy_tree(&source, node.root.path());
        for (link, target) in &node.facts.links {
            fs::create_dir_all(node.path(link).parent().unwrap()).unwrap();
            symlink(target, node.path(link)).unwrap();
        }
        for runtime in node.facts.runtimes() {
            // The trees are text: a program is made of what stands for one.
            if let Source::Host(HostSource { path }) = &runtime.source
                && node.path(path).is_file()
            {
                node.program(path, &program(&runtime.name));
            }
        }
        rendering::remember(&Files::below(node.root.path()), node.root.path(), &node.facts);
        node.boot();
        node
    }

    /// A copy of a tree, whose configuration a real daemon of this version loads; what is a template is rendered by
    /// `renderer`.
    pub(crate) fn under(tree: &str, daemon: &Path, version: &str, renderer: &Path) -> Self {
        let mut node = Self::of(tree);
        node.facts.version = version.to_owned();
        node.facts.renderer = Some(renderer.to_owned());
        node.daemon = Some(daemon.to_owned());
        node.boot();
        node
    }

    /// A node with just this configuration.
    pub(crate) fn with_config(version: &str, config: &str) -> Self {
        let node = Self::empty(Facts::plain(version));
        fs::create_dir_all(node.path("/etc/containerd")).unwrap();
        fs::write(node.path("/etc/containerd/config.toml"), config).unwrap();
        node.boot();
        node
    }

    fn empty(facts: Facts) -> Self {
        let root = in_memory();
        for folder in ["run", "opt", "etc", "var/lib", "usr/bin", "usr/local/bin"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let node = Self {
            root,
            bundle: in_memory(),
            facts,
            shared: Rc::default(),
            force: false,
            install_dir: None,
            limits: Limits::default(),
            network: Network::default(),
            daemon: None,
        };
        node.bundle("wasmtime", "1");
        node
    }

    /// Puts a bundled runtime with a shim of this name into the installer's image.
    pub(crate) fn bundle_shim(&self, name: &str, shim: &str) {
        let folder = self.bundle.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(shim), "shim").unwrap();
    }

    /// Puts a bundled runtime of this content into the installer's image.
    pub(crate) fn bundle(&self, name: &str, content: &str) {
        let folder = self.bundle.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("containerd-shim-{name}-v1")), content).unwrap();
        fs::write(folder.join(format!("{name}-engine")), content).unwrap();
    }

    pub(crate) fn empty_bundle(&self) {
        fs::remove_dir_all(self.bundle.path().join("wasmtime")).unwrap();
    }

    fn boot(&self) {
        *self.shared.loaded.borrow_mut() = self.system().effective().ok();
    }

    /// What a start of the distribution does, without anybody's asking.
    pub(crate) fn boot_anew(&self) {
        rendering::render(&Files::below(self.root.path()), &self.facts);
        self.boot();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        Files::below(self.root.path()).read(Path::new(path)).unwrap().unwrap()
    }

    pub(crate) fn config(&self) -> String {
        self.read(&self.facts.loaded)
    }

    pub(crate) fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let text = edit(self.config());
        fs::write(self.path(&self.facts.loaded), text).unwrap();
    }

    /// Puts a program on the node that everybody may run.
    pub(crate) fn program(&self, path: &str, content: &[u8]) {
        let real = self.path(path);
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::write(&real, content).unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn mood(&self, mood: Mood) -> &Self {
        self.shared.mood.set(mood);
        self
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.shared.restarts.get()
    }

    /// What the daemon would have if it were started now.
    pub(crate) fn dump(&self) -> Dump {
        self.system().dump().unwrap()
    }

    pub(crate) fn handlers(&self) -> Vec<String> {
        self.shared.loaded.borrow().iter().flat_map(|loaded| loaded.keys().cloned()).collect()
    }

    /// Pretends that a process runs this file of the node.
    pub(crate) fn process(&self, program: &str) {
        let process = Process { pid: 4711, name: "containerd-shim".into(), program: program.into() };
        self.shared.processes.borrow_mut().push(process);
    }

    pub(crate) fn no_processes(&self) {
        self.shared.processes.borrow_mut().clear();
    }

    /// Pretends that a pod of this name runs under this handler.
    pub(crate) fn pod(&self, name: &str, handler: &str) {
        let pod = Pod { namespace: "default".into(), name: name.into(), handler: handler.into() };
        self.shared.pods.borrow_mut().push(pod);
    }

    /// The points of a run.
    pub(crate) fn points(&self) -> &Points {
        &self.shared.points
    }

    /// The node as it is now.
    pub(crate) fn moment(&self) -> Moment {
        Moment { disk: Disk::of(self.root.path()), loaded: self.shared.loaded.borrow().clone() }
    }

    /// Makes the node what it was at a moment.
    pub(crate) fn put(&self, moment: &Moment) {
        moment.disk.put(self.root.path());
        self.shared.loaded.replace(moment.loaded.clone());
    }

    /// Whether every program of ours that the daemon's handlers name is there.
    pub(crate) fn has_programs(&self) -> Result<(), String> {
        let files = Files::below(self.root.path());
        let named = |table: &Json| {
            let named = [table.get("runtime_type"), table.get("runtime_path"), table.pointer("/options/BinaryName")];
            named.map(|path| path.and_then(Json::as_str).unwrap_or_default().to_owned())
        };
        let loaded = self.shared.loaded.borrow();
        let ours = loaded.iter().flat_map(Map::values).flat_map(named).filter(|path| path.contains("/kwasm/"));
        let lost = ours.into_iter().find(|path| files.metadata(Path::new(path)).is_none());
        lost.map_or(Ok(()), |path| Err(format!("a handler names {path}, which is not there")))
    }

    /// The power fails and comes back.
    pub(crate) fn power_cut(&self) -> Result<(), SystemError> {
        rendering::forget_run(self.root.path());
        self.system().start()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.log.borrow().clone()
    }

    fn system(&self) -> FakeSystem {
        FakeSystem {
            root: self.root.path().to_owned(),
            facts: self.facts.clone(),
            shared: Rc::clone(&self.shared),
            daemon: self.daemon.clone(),
        }
    }

    fn host(&self) -> Host {
        let gate = Counted(Rc::clone(&self.shared.points));
        Host { files: Files::gated(self.root.path(), Box::new(gate)), system: Box::new(self.system()) }
    }

    fn settings(&self) -> Settings {
        Settings {
            bundle: self.bundle.path().to_owned(),
            install_dir: self.install_dir.clone(),
            force: self.force,
            lock_patience: Duration::ZERO,
            cri_patience: Duration::ZERO,
            network: self.network.clone(),
            limits: self.limits.clone(),
        }
    }

    pub(crate) fn apply(&self, runtimes: &[Runtime]) -> (Report, Option<Stop>) {
        self.apply_while(runtimes, |_| ())
    }

    /// Applies, and does something else at each line of the log.
    pub(crate) fn apply_while(&self, runtimes: &[Runtime], meanwhile: impl Fn(&str)) -> (Report, Option<Stop>) {
        self.shared.log.borrow_mut().clear();
        let log = |line: &str| {
            self.shared.log.borrow_mut().push(line.to_owned());
            meanwhile(line);
        };
        carry_out(&self.host(), &self.settings(), &target(runtimes), &log)
    }

    /// What `kwasm-installer status` prints where these runtimes are recorded, and whether all is well.
    pub(crate) fn status(&self, runtimes: &[Runtime]) -> (String, bool) {
        let target = target(runtimes);
        let prepared = prepare(&self.host(), &self.settings(), &target).map_err(|(stop, _)| stop).unwrap();
        let status = Status::of(&prepared, &target);
        (status.to_string(), status.is_well())
    }

    /// Applies and expects success; returns how often the daemon was restarted.
    pub(crate) fn must_apply(&self, runtimes: &[Runtime]) -> u32 {
        let (report, stop) = self.apply(runtimes);
        assert!(stop.is_none(), "{stop:#?}");
        assert!(report.failure.is_none());
        report.restarts
    }

    /// Applies and expects a failure.
    pub(crate) fn must_fail(&self, runtimes: &[Runtime]) -> Stop {
        self.apply(runtimes).1.expect("a failure")
    }

    /// The plan as `--dry-run` prints it.
    pub(crate) fn plan(&self, runtimes: &[Runtime]) -> String {
        match prepare(&self.host(), &self.settings(), &target(runtimes)) {
            Ok(prepared) => render::plan(&prepared.observed, &prepared.plan),
            Err((stop, _)) => format!("{:?}: {stop}\n", stop.reason),
        }
    }

    /// Every file, link and directory with its content; `/run` forgets, so it is left out.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        Disk::of(self.root.path()).shown()
    }
}

/// A bundled runtime whose handler is its name.
fn target(runtimes: &[Runtime]) -> Target {
    Target::from_order(&Order::new("node", runtimes.to_vec())).unwrap()
}

pub(crate) fn bundled(name: &str) -> Runtime {
    runtime(name, Source::Bundled(Bundled::default()))
}

pub(crate) fn on_host(name: &str, path: &str) -> Runtime {
    runtime(name, Source::Host(HostSource { path: path.into() }))
}

pub(crate) fn preinstalled(name: &str) -> Runtime {
    runtime(name, Source::Preinstalled(Preinstalled {}))
}

pub(crate) fn runtime(name: &str, source: Source) -> Runtime {
    Runtime {
        name: name.into(),
        handler: name.into(),
        revision: String::new(),
        kind: RuntimeKind::Shim,
        source,
        options: BTreeMap::new(),
        pod_annotations: Vec::new(),
    }
    .revise()
}

/// A folder that costs no disk, where there is such a place: campaigns make a hundred thousand trees.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&source, &target);
        } else if entry.file_name() != ".keep" && entry.file_name() != "node.json" {
            fs::copy(&source, &target).unwrap();
        }
    }
}

/// What differs between two trees, with both contents.
pub(crate) fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    let differing = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    differing.map(|name| format!("{name}: {:?} instead of {:?}", one.get(name), other.get(name))).collect()
}
