//! What kind of node this is: which daemon serves CRI, which file is ours to write, and how it is taken up.
//!
//! [`Evidence`] is read from the node; [`claim`] decides by it alone which daemon counts, and refuses where
//! two things seen contradict each other; each distribution's own module then says where its files are.

mod claim;
mod crio;
mod evidence;
mod immutable;
mod k0s;
mod microk8s;
mod plain;
mod rancher;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use claim::{Claim, Kind, claim};
pub use evidence::{Evidence, Os};

use crate::failure::{Reason, Stop};
use crate::host::files::Files;
use crate::host::mounts::Mounts;
use crate::observe::Host;

/// A node, as far as its container runtime goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Which system runs the daemon.
    pub kind: Kind,
    /// The daemon.
    pub daemon: Daemon,
    /// Its configuration.
    pub layout: Layout,
    /// How the daemon takes a new configuration up.
    pub take_up: TakeUp,
    /// Where binaries may go, the best first.
    pub install_dirs: Vec<PathBuf>,
    /// A folder on the daemon's `PATH`, where there is no kubelet: Docker and `ctr` find shims by their names.
    pub name_dir: Option<PathBuf>,
    /// What is mounted.
    pub mounts: Mounts,
}

/// The daemon that serves CRI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Such as `1.6.20~ds1`.
    pub version: String,
    /// The first number of the version.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The unit that runs it; where there is none, the process that does.
    pub unit: String,
    /// The program.
    pub program: PathBuf,
    /// The socket it was told to open, if any.
    pub address: Option<String>,
    /// Where it writes its log, if that is not the journal.
    pub log: Option<PathBuf>,
}

/// Which file is ours, and how it gets into what the daemon loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The file that is written.
    pub path: PathBuf,
    /// What it is.
    pub form: Form,
    /// The file that the daemon loads.
    pub loaded: PathBuf,
}

/// What our file is to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The file that the daemon loads.
    Main,
    /// TOML that the distribution renders, or merges with its own, into the file that the daemon loads.
    Source,
    /// A Go template of k3s or RKE2, rendered into the file that the daemon loads.
    Template,
    /// A file that the daemon's file imports.
    Import,
    /// A file of CRI-O's folder of drop-ins.
    CrioDropIn,
    /// None: Docker and `ctr` find a shim by its name.
    ByName,
    /// None: the system does not let its configuration be changed.
    Fixed(Refusal),
}

impl Form {
    /// Whether there is a file that is ours to write.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        !matches!(self, Self::ByName | Self::Fixed(_))
    }
}

/// Why nothing can be changed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What stands against it.
    pub why: String,
    /// The way out.
    pub way_out: String,
}

/// How a daemon takes a new configuration up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeUp {
    /// The unit is restarted.
    Restart(String),
    /// The node's first process is ended; what runs the node as a container starts it again.
    EndInit,
    /// The distribution watches the file.
    Watched,
}

impl fmt::Display for TakeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(unit) => write!(f, "restart {unit}"),
            Self::EndInit => f.write_str("end process 1, so that the node is started again"),
            Self::Watched => f.write_str("wait for k0s to take the file up"),
        }
    }
}

impl Kind {
    /// The daemon's name, for people.
    #[must_use]
    pub const fn daemon(self) -> &'static str {
        if matches!(self, Self::Crio) { "CRI-O" } else { "containerd" }
    }
}

/// Where binaries go if nothing speaks against it.
const USUAL_DIRS: [&str; 2] = ["/opt/kwasm", "/var/lib/kwasm"];

fn usual_dirs() -> Vec<PathBuf> {
    USUAL_DIRS.map(PathBuf::from).to_vec()
}

/// Finds out what kind of node this is. `recorded` is the file that an earlier run wrote.
///
/// # Errors
/// If it is none that is known, or what was seen contradicts itself.
pub fn detect(host: &Host, recorded: Option<&Path>) -> Result<Platform, Stop> {
    let (evidence, claim) = look(host, recorded)?;
    let version = version(host, &claim)?;
    let seen = Seen { host, evidence: &evidence, claim: &claim, version: &version, recorded };
    let mut platform = match claim.kind {
        Kind::Containerd => plain::platform(&seen),
        Kind::K3s | Kind::Rke2 => rancher::platform(&seen)?,
        Kind::K0s => k0s::platform(&seen)?,
        Kind::MicroK8s => microk8s::platform(&seen),
        Kind::Crio => crio::platform(&seen),
        Kind::Talos => plain::platform(&seen),
    };
    if let Some(refusal) = immutable::refusal(&seen, &platform.layout) {
        platform.layout.form = Form::Fixed(refusal);
    }
    Ok(platform)
}

/// A daemon that is just being restarted looks like none, or like one under no unit: that passes.
fn look(host: &Host, recorded: Option<&Path>) -> Result<(Evidence, Claim), Stop> {
    const TRIES: usize = 5;
    let mut tries = 1;
    loop {
        let evidence = Evidence::gather(host)?;
        match claim(&evidence, recorded.filter(|_| tries == TRIES)) {
            Ok(claim) => return Ok((evidence, claim)),
            Err(stop) if tries == TRIES => return Err(stop),
            Err(_) => host.system.pause(Duration::from_millis(500)),
        }
        tries += 1;
    }
}

/// What the modules of the distributions decide from.
struct Seen<'a> {
    host: &'a Host,
    evidence: &'a Evidence,
    claim: &'a Claim,
    version: &'a Version,
    recorded: Option<&'a Path>,
}

/// A version as the daemon tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    text: String,
    major: u32,
    minor: u32,
}

impl Seen<'_> {
    fn files(&self) -> &Files {
        &self.host.files
    }

    /// A file's text; `None` if there is none that can be read as text.
    fn text(&self, path: &Path) -> Option<String> {
        text(self.files(), path)
    }

    /// The file that an earlier run wrote, where the daemon does not run and cannot tell what it reads.
    fn remembered(&self) -> Option<&Path> {
        self.recorded.filter(|_| self.claim.process.is_none())
    }

    /// The value of the daemon's command line option.
    fn option(&self, names: &[&str]) -> Option<&str> {
        self.claim.process.as_ref()?.option(names)
    }

    fn daemon(&self, address: Option<String>) -> Daemon {
        let Version { text, major, minor } = self.version.clone();
        let unit = self.claim.unit.clone().unwrap_or_else(|| "process 1".to_owned());
        Daemon { version: text, major, minor, unit, program: self.claim.program.clone(), address, log: None }
    }

    /// The unit's restart or, where there is no systemd, the whole node's.
    fn restart(&self) -> TakeUp {
        self.claim.unit.clone().map_or(TakeUp::EndInit, TakeUp::Restart)
    }

    fn platform(&self, address: Option<String>, layout: Layout) -> Platform {
        Platform {
            kind: self.claim.kind,
            daemon: self.daemon(address),
            layout,
            take_up: self.restart(),
            install_dirs: usual_dirs(),
            name_dir: None,
            mounts: self.evidence.mounts.clone(),
        }
    }
}

fn text(files: &Files, path: &Path) -> Option<String> {
    files.read(path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok())
}

fn version(host: &Host, claim: &Claim) -> Result<Version, Stop> {
    let step = format!("look for {}", claim.kind.daemon());
    let text = host.system.daemon_version(&claim.program);
    let text = text.map_err(|error| Stop::unchanged(&step, Reason::NodeNotSupported, error))?;
    let (major, minor) = numbers(&text);
    if (major, minor) == (0, 0) {
        let words = format!("{} says its version is `{text}`, which is no number", claim.program.display());
        return Err(Stop::unchanged(step, Reason::NodeNotSupported, words));
    }
    if claim.kind != Kind::Crio && (major, minor) < (1, 6) {
        let words = format!("containerd {text} does not speak CRI v1");
        return Err(Stop::unchanged(step, Reason::ContainerdTooOld, words));
    }
    Ok(Version { text, major, minor })
}

/// The first two numbers of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-', '~', '+']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
