//! The installer with one fault: at a point of its run it is killed, or what it does there fails.
//!
//! `faulty-installer FAULT POINT BUNDLE ORDER`: the fault is `none`, `kill`, or the name of an error such as `ENOSPC`;
//! points are counted from 0; bundle and Order are paths. It prints every point that it passed, a line each.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kwasm_installer::artifacts::client::Limits;
use kwasm_installer::artifacts::network::Network;
use kwasm_installer::host::files::{Gate, Operation};
use kwasm_installer::host::mounts::Mounts;
use kwasm_installer::host::node::Node;
use kwasm_installer::host::system::{CriStatus, Pod, Process, Running, SystemError, Unit};
use kwasm_installer::host::{Files, System};
use kwasm_installer::observe::{Host, Settings};
use kwasm_installer::run::carry_out;
use kwasm_installer::target::Target;
use rustix::io::Errno;

/// What happens at the point.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Kill,
    Error(Errno),
}

impl Fault {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::None,
            "kill" => Self::Kill,
            "EIO" => Self::Error(Errno::IO),
            "ENOSPC" => Self::Error(Errno::NOSPC),
            "EROFS" => Self::Error(Errno::ROFS),
            "EACCES" => Self::Error(Errno::ACCESS),
            other => bail!("no fault is called {other}"),
        })
    }
}

/// Counts the points and strikes at one of them.
#[derive(Clone)]
struct Points {
    passed: Rc<RefCell<Vec<String>>>,
    fault: Fault,
    at: usize,
}

impl Points {
    fn pass(&self, what: String) -> io::Result<()> {
        let number = self.passed.borrow().len();
        self.passed.borrow_mut().push(what);
        match self.fault {
            Fault::Kill if number == self.at => {
                let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                Err(killed.err().map_or_else(|| io::Error::other("killed"), io::Error::from))
            }
            Fault::Error(error) if number == self.at => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Gate for Points {
    fn pass(&self, operation: Operation, path: &Path) -> io::Result<()> {
        Points::pass(self, format!("{operation:?} {}", path.display()))
    }
}

/// The real node, each of whose commands and calls is a point.
struct FaultySystem {
    node: Node,
    points: Points,
}

impl FaultySystem {
    fn point(&self, command: &str) -> Result<(), SystemError> {
        let failed = |error: io::Error| SystemError::Start { command: command.to_owned(), reason: error.to_string() };
        self.points.pass(format!("Run {command}")).map_err(failed)
    }
}

impl System for FaultySystem {
    fn units(&self, names: &[&str]) -> Result<Vec<Unit>, SystemError> {
        self.point("systemctl show")?;
        self.node.units(names)
    }

    fn running(&self, names: &[&str]) -> Vec<Running> {
        self.node.running(names)
    }

    fn mounts(&self) -> Mounts {
        self.node.mounts()
    }

    fn daemon_version(&self, daemon: &Path) -> Result<String, SystemError> {
        self.point("containerd --version")?;
        self.node.daemon_version(daemon)
    }

    fn config_dump(&self, daemon: &Path, file: Option<&Path>) -> Result<String, SystemError> {
        self.point("containerd config dump")?;
        self.node.config_dump(daemon, file)
    }

    fn crio_config(&self, daemon: &Path, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
        self.point("crio config")?;
        self.node.crio_config(daemon, main, folder)
    }

    fn crio_defaults(&self, daemon: &Path) -> Result<String, SystemError> {
        self.point("crio config --default")?;
        self.node.crio_defaults(daemon)
    }

    fn restart(&self, unit: &str) -> Result<(), SystemError> {
        self.point("systemctl restart")?;
        self.node.restart(unit)?;
        // The other side of it: the daemon has been restarted, and nobody knows yet.
        self.point("after systemctl restart")
    }

    fn end_init(&self) -> Result<(), SystemError> {
        self.point("end process 1")?;
        self.node.end_init()
    }

    fn last_words(&self, unit: &str) -> String {
        self.node.last_words(unit)
    }

    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError> {
        self.node.cri(socket)
    }

    fn pods(&self, socket: &str) -> Result<Vec<Pod>, SystemError> {
        self.point("ask CRI for its pods")?;
        self.node.pods(socket)
    }

    fn try_out(&self, program: &Path, argument: &str, limit: Duration) -> Result<(), SystemError> {
        self.point("try the shim out")?;
        self.node.try_out(program, argument, limit)
    }

    fn processes_below(&self, folder: &Path) -> Vec<Process> {
        self.node.processes_below(folder)
    }

    fn pause(&self, time: Duration) {
        self.node.pause(time);
    }
}

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [fault, at, bundle, order] = &words[..] else { bail!("four words: FAULT POINT BUNDLE ORDER") };
    let points = Points { passed: Rc::default(), fault: Fault::named(fault)?, at: at.parse().context("a number")? };
    let target = Target::from_json(&std::fs::read_to_string(order).with_context(|| order.clone())?)?;
    let system = FaultySystem { node: Node::default(), points: points.clone() };
    let host = Host { files: Files::gated("/", Box::new(points.clone())), system: Box::new(system) };
    let settings = Settings {
        bundle: PathBuf::from(bundle),
        install_dir: None,
        force: false,
        lock_patience: Duration::ZERO,
        cri_patience: Duration::from_secs(60),
        network: Network::of_this_process(),
        limits: Limits::default(),
    };
    let (_, stop) = carry_out(&host, &settings, &target, &|line| eprintln!("{line}"));
    for point in points.passed.borrow().iter() {
        println!("{point}");
    }
    if let Some(stop) = &stop {
        eprintln!("{stop}");
    }
    Ok(stop.map_or(ExitCode::SUCCESS, |stop| ExitCode::from(stop.exit_code())))
}
