//! Reading the node. Nothing is changed here, and nothing is decided except what cannot be read at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::artifacts::client::Limits;
use crate::artifacts::network::Network;
use crate::artifacts::remote::Remote;
use crate::artifacts::{Artifact, ArtifactError, bin_dir, fetch, runtimes_dir};
use crate::config::dump::Dump;
use crate::failure::{Reason, Stop};
use crate::host::files::{Attributes, attributes_of, temporary};
use crate::host::system::{CriStatus, Process};
use crate::host::{Files, System};
use crate::ledger::{Ledger, State};
use crate::target::{Target, Wanted, WantedSource};

/// The unit of a plain containerd node, as containerd itself ships it.
pub const UNIT: &str = "containerd.service";

/// What containerd reads if nobody names another file.
const CONFIG: &str = "/etc/containerd/config.toml";

/// Where binaries go if nobody says otherwise; the first that takes programs.
const INSTALL_DIRS: [&str; 2] = ["/opt/kwasm", "/var/lib/kwasm"];

/// Where bundled runtimes keep what they compiled on the node.
pub const CACHE: &str = "/var/lib/kwasm/cache";

/// A node, real or not.
pub struct Host {
    /// Its files.
    pub files: Files,
    /// All else.
    pub system: Box<dyn System>,
}

/// How a run is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the bundled runtimes.
    pub bundle: PathBuf,
    /// Where binaries go; `None`: decided by looking.
    pub install_dir: Option<PathBuf>,
    /// Take the configuration away even while binaries are in use.
    pub force: bool,
    /// How long to wait for another installer.
    pub lock_patience: Duration,
    /// How long to wait for CRI after a restart.
    pub cri_patience: Duration,
    /// What must be known to fetch something.
    pub network: Network,
    /// How much is fetched, and how long that may take.
    pub limits: Limits,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Such as `1.6.20~ds1`.
    pub version: String,
    /// The first number of the version.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The unit that runs it.
    pub unit: String,
    /// The program.
    pub program: PathBuf,
    /// The file it was told to read.
    pub config_path: PathBuf,
    /// The socket it was told to open, if any.
    pub address: Option<String>,
}

/// What stands at the place of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A link to this path.
    Link(PathBuf),
    /// A file, such as a binary of KWasm 0.2.
    File,
}

/// Everything that plans are made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The daemon.
    pub daemon: Daemon,
    /// The configuration file's text; `None` if there is none.
    pub config: Option<String>,
    /// A file beside it that a run left which was cut off.
    pub config_leftover: Option<PathBuf>,
    /// Mode and owner of the configuration file.
    pub config_attributes: Attributes,
    /// The ledger, if there is one.
    pub ledger: Option<Ledger>,
    /// What the node is at, according to the ledger.
    pub state: State,
    /// Where binaries go.
    pub install_dir: PathBuf,
    /// The artifacts that the target needs, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// Folders that a run left which was cut off while it fetched.
    pub fetch_leftovers: Vec<PathBuf>,
    /// Artifacts on the node: name and digest, or a folder that was never finished.
    pub installed: Vec<(String, String)>,
    /// What stands where links are or should be.
    pub links: BTreeMap<PathBuf, Standing>,
    /// Processes that run our binaries.
    pub processes: Vec<Process>,
    /// Directories on the way to ours that are not there, the outermost first.
    pub missing_dirs: Vec<PathBuf>,
    /// Directories of ours, or that we once created, that are there.
    pub own_dirs: Vec<PathBuf>,
    /// Binaries of `host` runtimes that are not there.
    pub missing_binaries: Vec<PathBuf>,
    /// [`CACHE`], if it is there.
    pub cache: Option<PathBuf>,
    /// Whether the ledger's folder is there without a ledger, as a run that was cut off leaves it.
    pub bare_ledger_folder: bool,
    /// Whether binaries in use are no reason to stop.
    pub forced: bool,
}

/// What the daemon makes of a configuration, and what it serves now.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The configuration without us.
    pub dump: Dump,
    /// What CRI says now.
    pub cri: CriStatus,
    /// The socket of CRI.
    pub socket: String,
}

impl Observed {
    /// Whether an earlier run began a transaction and did not end it.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.pending.is_some())
    }

    /// The text before an unfinished transaction, if the file has another one now.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Option<String>> {
        let previous = &self.ledger.as_ref()?.pending.as_ref()?.previous;
        (*previous != self.config).then_some(previous)
    }
}

/// Reads the node.
///
/// # Errors
/// If it is no node that this version knows, or something that must be read cannot be.
pub fn observe(host: &Host, settings: &Settings, target: &Target) -> Result<Observed, Stop> {
    let daemon = daemon(host)?;
    let config = config_text(&host.files, &daemon.config_path)?;
    let attributes = host.files.metadata(&daemon.config_path).as_ref().map(attributes_of);
    let ledger = Ledger::read(&host.files)
        .map_err(|error| Stop::unchanged("read the ledger", Reason::LedgerNotReadable, error))?;
    let state = ledger.as_ref().map(|ledger| ledger.at(config.as_deref())).unwrap_or_default();
    let install_dir = install_dir(&host.files, settings, &state)?;
    let artifacts = load_artifacts(&host.files, settings, target, &state, &install_dir)?;
    Ok(Observed {
        installed: installed(&host.files, &install_dir),
        links: links(&host.files, &install_dir, &artifacts),
        processes: host.system.processes_below(&runtimes_dir(&install_dir)),
        missing_dirs: missing_dirs(&host.files, &daemon, &install_dir, &artifacts),
        own_dirs: own_dirs(&host.files, &install_dir, &state),
        missing_binaries: missing_binaries(&host.files, target),
        cache: host.files.metadata(Path::new(CACHE)).map(|_| CACHE.into()),
        bare_ledger_folder: ledger.is_none() && Ledger::has_bare_folder(&host.files),
        forced: settings.force,
        fetch_leftovers: fetch::leftovers(&host.files, &install_dir),
        config_leftover: config_leftover(&host.files, &daemon.config_path),
        config_attributes: attributes.unwrap_or(Attributes::CONFIG),
        daemon,
        config,
        ledger,
        state,
        install_dir,
        artifacts,
    })
}

/// Finds out what the daemon makes of `base`, the configuration without us, and asks CRI.
///
/// # Errors
/// If the daemon refuses it, or CRI is switched off or does not answer although no transaction is unfinished.
pub fn effective(host: &Host, observed: &Observed, base: Option<&str>) -> Result<Effective, Stop> {
    let step = format!("load {} with containerd", observed.daemon.config_path.display());
    let dump = load(host, &observed.daemon, base, observed.config.as_deref())
        .map_err(|words| Stop::unchanged(step, Reason::ConfigNotLoadable, words))?;
    if dump.disables_cri() {
        let words = format!("the CRI plugin is disabled in {}", observed.daemon.config_path.display());
        return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words));
    }
    let socket = observed.daemon.address.clone().unwrap_or_else(|| dump.socket().to_owned());
    let cri = match ask_patiently(host, &socket) {
        Ok(cri) => cri,
        // Our own earlier run may have left it so: then this run mends it.
        Err(_) if observed.interrupted() => CriStatus::default(),
        Err(words) => return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words)),
    };
    Ok(Effective { dump, cri, socket })
}

/// What the daemon would make of a text.
///
/// # Errors
/// In the daemon's words, if it refuses the text.
pub fn load(host: &Host, daemon: &Daemon, text: Option<&str>, current: Option<&str>) -> Result<Dump, String> {
    let printed = match text {
        None => host.system.config_dump(&daemon.program, None),
        Some(_) if text == current => host.system.config_dump(&daemon.program, Some(&daemon.config_path)),
        Some(text) => {
            let beside = candidate_path(&daemon.config_path, text);
            let attributes = Attributes::PRIVATE;
            host.files.write_new(&beside, attributes, &mut text.as_bytes()).map_err(|error| error.to_string())?;
            let printed = host.system.config_dump(&daemon.program, Some(&beside));
            host.files.remove(&beside).map_err(|error| error.to_string())?;
            printed
        }
    };
    let printed = printed.map_err(|error| error.to_string())?;
    Dump::parse(&printed).map_err(|error| format!("containerd printed no TOML: {}", error.message()))
}

/// `/run` forgets what a crash left; only relative imports need the file's own folder.
fn candidate_path(config: &Path, text: &str) -> PathBuf {
    if imports_relatively(text) { temporary(config) } else { PathBuf::from("/run/.kwasm-candidate") }
}

fn imports_relatively(text: &str) -> bool {
    let document = toml_edit::Document::parse(text).ok();
    let imports = document.as_ref().and_then(|document| document.get("imports")?.as_array());
    imports.is_some_and(|paths| paths.iter().filter_map(|path| path.as_str()).any(|path| !path.starts_with('/')))
}

fn ask_patiently(host: &Host, socket: &str) -> Result<CriStatus, String> {
    // A daemon that somebody else has just restarted needs a moment.
    const TRIES: usize = 40;
    let mut words = String::new();
    for _ in 0..TRIES {
        match host.system.cri(socket) {
            Ok(status) if status.ready => return Ok(status),
            Ok(status) => words = format!("the condition RuntimeReady is false: {}", status.message),
            Err(error) => words = error.to_string(),
        }
        host.system.pause(Duration::from_millis(250));
    }
    Err(words)
}

fn daemon(host: &Host) -> Result<Daemon, Stop> {
    let step = "look for containerd";
    let unit = host.system.unit(UNIT).map_err(|error| Stop::unchanged(step, Reason::NodeNotSupported, error))?;
    if !unit.loaded {
        return Err(Stop::unchanged(step, Reason::NodeNotSupported, format!("there is no unit {UNIT}")));
    }
    let program = if unit.program.as_os_str().is_empty() { "containerd".into() } else { unit.program };
    let version =
        host.system.daemon_version(&program).map_err(|error| Stop::unchanged(step, Reason::NodeNotSupported, error))?;
    let mut numbers = version.split(['.', '-', '~', '+']).map(|number| number.parse().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) < (1, 6) {
        let words = format!("containerd {version} does not speak CRI v1");
        return Err(Stop::unchanged(step, Reason::ContainerdTooOld, words));
    }
    let config_path = option(&unit.arguments, &["--config", "-c"]).unwrap_or_else(|| CONFIG.to_owned()).into();
    let address = option(&unit.arguments, &["--address", "-a"]);
    Ok(Daemon { version, major, minor, unit: UNIT.to_owned(), program, config_path, address })
}

/// The value of a command line option, as the next word or after `=`.
fn option(arguments: &[String], names: &[&str]) -> Option<String> {
    let next = arguments.iter().skip(1);
    arguments.iter().zip(next.map(Some).chain([None])).find_map(|(word, next)| match word.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value.to_owned()),
        None if names.contains(&word.as_str()) => next.cloned(),
        _ => None,
    })
}

fn config_text(files: &Files, path: &Path) -> Result<Option<String>, Stop> {
    let step = format!("read {}", path.display());
    let bytes = files.read(path).map_err(|error| Stop::unchanged(&step, Reason::ConfigNotToml, error))?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
        let words = format!("{}: line {line}, column {column}: not UTF-8", path.display());
        Stop::unchanged(step, Reason::ConfigNotToml, words)
    })
}

fn install_dir(files: &Files, settings: &Settings, state: &State) -> Result<PathBuf, Stop> {
    let step = "choose a directory for binaries";
    let chosen = settings.install_dir.clone().or_else(|| state.install_dir.clone());
    let candidates: Vec<PathBuf> = chosen.map_or_else(|| INSTALL_DIRS.map(PathBuf::from).to_vec(), |dir| vec![dir]);
    let found = candidates.iter().find(|dir| files.takes_programs(dir)).cloned();
    found.ok_or_else(|| {
        let names: Vec<String> = candidates.iter().map(|dir| dir.display().to_string()).collect();
        let words = format!("read-only or mounted noexec: {}", names.join(", "));
        Stop::unchanged(step, Reason::NoInstallDirectory, words)
    })
}

/// The artifacts of the target: as they are on the node already, or from the bundle, or to be fetched.
fn load_artifacts(
    files: &Files,
    settings: &Settings,
    target: &Target,
    state: &State,
    install_dir: &Path,
) -> Result<BTreeMap<String, Artifact>, Stop> {
    let mut artifacts = BTreeMap::new();
    for wanted in &target.runtimes {
        let name = match &wanted.source {
            WantedSource::Bundle(name) => name,
            WantedSource::Remote(remote) => {
                let artifact = known_or_remote(files, wanted, remote, state, install_dir)?;
                artifacts.insert(artifact.name.clone(), artifact);
                continue;
            }
            WantedSource::Host(_) | WantedSource::Preinstalled => continue,
        };
        let known = state.artifacts.iter().find(|artifact| artifact.name == *name);
        let there = known.filter(|artifact| files.metadata(&artifact.folder(install_dir)).is_some());
        let artifact = match (Artifact::load(&settings.bundle, name), there) {
            (Ok(artifact), _) => artifact,
            (Err(ArtifactError::Missing { .. }), Some(artifact)) => artifact.clone(),
            (Err(error), _) => return Err(Stop::unchanged("read the bundle", Reason::BundleNotUsable, error)),
        };
        artifacts.insert(name.clone(), artifact);
    }
    Ok(artifacts)
}

/// What the node has already is not fetched again. Its folder tells, so that a lost ledger costs no download.
fn known_or_remote(
    files: &Files,
    wanted: &Wanted,
    remote: &Remote,
    state: &State,
    install_dir: &Path,
) -> Result<Artifact, Stop> {
    let expected = remote.expected(&wanted.runtime.name, wanted.runtime.kind);
    let folder = expected.folder(install_dir);
    if files.metadata(&folder).is_none() {
        return Ok(expected);
    }
    let known = |known: &&Artifact| known.name == expected.name && known.digest == expected.digest;
    if let Some(known) = state.artifacts.iter().find(known) {
        return Ok(known.clone());
    }
    let step = format!("read {}", folder.display());
    expected.found(files, &folder).map_err(|error| Stop::unchanged(step, Reason::FileNotChanged, error))
}

fn installed(files: &Files, install_dir: &Path) -> Vec<(String, String)> {
    let runtimes = runtimes_dir(install_dir);
    let names = files.names(&runtimes).into_iter();
    names
        .flat_map(|name| {
            let digests = files.names(&runtimes.join(&name));
            digests.into_iter().map(move |digest| (name.clone(), digest))
        })
        .collect()
}

fn links(files: &Files, install_dir: &Path, wanted: &BTreeMap<String, Artifact>) -> BTreeMap<PathBuf, Standing> {
    let bin = bin_dir(install_dir);
    let there = files.names(&bin).into_iter().map(|name| bin.join(name));
    let wanted = wanted.values().map(|artifact| artifact.link(install_dir));
    there
        .chain(wanted)
        .map(|path| {
            let standing = match (files.link_target(&path), files.link_metadata(&path)) {
                (Some(target), _) => Standing::Link(target),
                (None, Some(_)) => Standing::File,
                (None, None) => Standing::Nothing,
            };
            (path, standing)
        })
        .collect()
}

fn missing_dirs(
    files: &Files,
    daemon: &Daemon,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
) -> Vec<PathBuf> {
    let mut needed: Vec<PathBuf> = Vec::new();
    if !artifacts.is_empty() {
        needed.push(bin_dir(install_dir));
        needed.extend(artifacts.keys().map(|name| runtimes_dir(install_dir).join(name)));
    }
    needed.extend(daemon.config_path.parent().map(Path::to_owned));
    let mut missing: Vec<PathBuf> = needed
        .iter()
        .flat_map(|path| path.ancestors())
        .filter(|path| files.metadata(path).is_none())
        .map(Path::to_owned)
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

fn config_leftover(files: &Files, path: &Path) -> Option<PathBuf> {
    let beside = [temporary(&files.follow(path)), temporary(path)];
    beside.into_iter().find(|path| files.link_metadata(path).is_some())
}

fn own_dirs(files: &Files, install_dir: &Path, state: &State) -> Vec<PathBuf> {
    let runtimes = runtimes_dir(install_dir);
    let names = files.names(&runtimes).into_iter().map(|name| runtimes.join(name));
    let mut dirs: Vec<PathBuf> = names.chain(state.created_dirs.iter().cloned()).collect();
    dirs.push(runtimes);
    dirs.retain(|dir| files.metadata(dir).is_some_and(|dir| dir.is_dir()));
    dirs.sort();
    dirs.dedup();
    dirs
}

fn missing_binaries(files: &Files, target: &Target) -> Vec<PathBuf> {
    let paths = target.runtimes.iter().filter_map(|wanted| match &wanted.source {
        WantedSource::Host(path) => Some(path),
        _ => None,
    });
    paths.filter(|path| !files.metadata(path).is_some_and(|file| file.is_file())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["containerd"], None)]
    #[case(&["containerd", "--config", "/a"], Some("/a"))]
    #[case(&["containerd", "-c=/a", "--log-level", "debug"], Some("/a"))]
    #[case(&["containerd", "--config"], None)]
    fn the_configuration_is_the_one_on_the_command_line(#[case] line: &[&str], #[case] expected: Option<&str>) {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(option(&line, &["--config", "-c"]).as_deref(), expected);
    }
}
