//! Reading the node. Nothing is changed here, and nothing is decided except what cannot be read at all.

mod artifacts;
mod candidate;
mod effective;
mod install_dir;
mod inventory;
mod obstacles;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub use candidate::{LoadError, Loadable, load};
pub use effective::{Effective, effective, pods};

use artifacts::{Bundles, Found, OnNode};

use crate::artifacts::client::Limits;
use crate::artifacts::network::Network;
use crate::artifacts::{Artifact, fetch};
use crate::config::Dialect;
use crate::failure::{Reason, Stop};
use crate::host::files::{Attributes, attributes_of};
use crate::host::system::Process;
use crate::host::{Files, System};
use crate::ledger::{Ledger, State};
use crate::platform::{self, Form, Kind, Platform};
use crate::target::{Target, WantedSource};

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
    /// Take the configuration away even from pods that run and binaries in use.
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
    /// What kind of node it is.
    pub platform: Platform,
    /// The text of the file that is ours to write; `None` if there is none.
    pub config: Option<String>,
    /// The text that the daemon loads, where that is another file.
    pub loaded: Option<String>,
    /// Where its new text is prepared.
    pub config_draft: PathBuf,
    /// A file beside it that a run left which was cut off.
    pub config_leftover: Option<PathBuf>,
    /// A file beside the ledger that a run left which was cut off.
    pub ledger_leftover: Option<PathBuf>,
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
    /// What is wrong with the folders of these artifacts that are on the node, in words.
    pub damaged: BTreeMap<PathBuf, String>,
    /// Folders that a run left which was cut off while it fetched.
    pub fetch_leftovers: Vec<PathBuf>,
    /// Artifacts on the node: name and digest, or a folder that was never finished.
    pub installed: Vec<(String, String)>,
    /// Links in a folder on the daemon's `PATH`, by which shims are found without a configuration: to what.
    pub named: BTreeMap<PathBuf, PathBuf>,
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
    /// Why others of them cannot be run, in words.
    pub refused_binaries: Vec<String>,
    /// [`CACHE`], if it is there.
    pub cache: Option<PathBuf>,
    /// Whether the ledger's folder is there without a ledger, as a run that was cut off leaves it.
    pub bare_ledger_folder: bool,
    /// Whether pods that run and binaries in use are no reason to stop.
    pub forced: bool,
}

impl Observed {
    /// Whether an earlier run began a transaction and did not end it.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.pending.is_some())
    }

    /// Version of the configuration's format; 0 where it cannot be understood, and for CRI-O, which has none.
    #[must_use]
    pub fn config_version(&self) -> u32 {
        if self.platform.kind == Kind::Crio {
            return Dialect::Crio.number();
        }
        let fresh = Dialect::fresh(self.platform.daemon.major);
        let text = self.loaded.as_deref().or(self.config.as_deref());
        text.map_or(Ok(fresh), Dialect::of).map_or(0, Dialect::number)
    }

    /// The text before an unfinished transaction, if the file has the one that it wrote.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Option<String>> {
        let ledger = self.ledger.as_ref().filter(|_| self.platform.layout.form.is_written())?;
        ledger.unfinished(self.config.as_deref())
    }

    /// The configuration that undoing leads back to: before an unfinished transaction, if there is one.
    #[must_use]
    pub fn config_before(&self) -> &Option<String> {
        self.unfinished().unwrap_or(&self.config)
    }
}

/// Reads the node.
///
/// # Errors
/// If it is no node that this version knows, or something that must be read cannot be.
pub fn observe(host: &Host, settings: &Settings, target: &Target) -> Result<Observed, Stop> {
    // Hashing a bundle takes as long as asking the node's programs who they are.
    thread::scope(|scope| {
        let load = || Bundles::load(&settings.bundle, target);
        let loading = thread::Builder::new().spawn_scoped(scope, load);
        observe_with(host, settings, target, || match loading {
            Ok(loading) => loading.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // A node without room for another thread.
            Err(_) => load(),
        })
    })
}

fn observe_with(
    host: &Host,
    settings: &Settings,
    target: &Target,
    bundles: impl FnOnce() -> Bundles,
) -> Result<Observed, Stop> {
    let files = &host.files;
    let ledger = Ledger::read(files).map_err(|error| error.stop())?;
    let platform = platform::detect(host, ledger.as_ref().and_then(Ledger::config_path))?;
    refuse_fixed(&platform, target)?;
    let path = &platform.layout.path;
    let config = config_text(files, path)?;
    let loaded = if platform.layout.loaded == *path { None } else { config_text(files, &platform.layout.loaded)? };
    let state = ledger.as_ref().map(|ledger| ledger.at(config.as_deref())).unwrap_or_default();
    refuse_moved(files, &platform, &state)?;
    let install_dir = install_dir::choose(files, settings, &platform, &state, target)?;
    let settled = ledger.as_ref().is_none_or(|ledger| ledger.pending.is_none());
    let on_node = OnNode { files, state: &state, settled, install_dir: &install_dir };
    let Found { artifacts, damaged } = on_node.find(bundles(), target)?;
    let named = inventory::named(&platform, target, &artifacts, &install_dir);
    let links = inventory::links(files, &install_dir, &artifacts, named.keys().chain(&state.named));
    obstacles::refuse(files, &platform, target, &install_dir, &artifacts, &named)?;
    obstacles::refuse_taken(files, &state, &install_dir, &artifacts)?;
    let installed = inventory::installed(files, &install_dir);
    Ok(Observed {
        links,
        processes: inventory::processes(host, &install_dir),
        missing_dirs: inventory::missing_dirs(files, &platform, &install_dir, &artifacts),
        own_dirs: inventory::own_dirs(files, &platform, &install_dir, &state, &installed),
        missing_binaries: inventory::missing_binaries(files, target),
        refused_binaries: inventory::refused_binaries(files, target),
        cache: files.metadata(Path::new(CACHE)).map(|_| CACHE.into()),
        bare_ledger_folder: ledger.is_none() && Ledger::has_bare_folder(files),
        forced: settings.force,
        fetch_leftovers: fetch::leftovers(files, &install_dir),
        config_leftover: inventory::config_leftover(files, &platform.layout),
        config_draft: inventory::config_draft(files, &platform.layout),
        ledger_leftover: Ledger::leftover(files),
        config_attributes: files.metadata(path).as_ref().map_or(Attributes::CONFIG, attributes_of),
        named,
        installed,
        damaged,
        platform,
        config,
        loaded,
        ledger,
        state,
        install_dir,
        artifacts,
    })
}

/// Where the configuration cannot be changed, only what is there already can be asked for.
fn refuse_fixed(platform: &Platform, target: &Target) -> Result<(), Stop> {
    let Form::Fixed(refusal) = &platform.layout.form else { return Ok(()) };
    match target.runtimes.iter().find(|wanted| wanted.source != WantedSource::Preinstalled) {
        None => Ok(()),
        Some(wanted) => {
            let words = format!("cannot register {}: {}", wanted.runtime.name, refusal.why);
            Err(Stop::unchanged("look for the configuration", Reason::NodeNotSupported, words)
                .with_remedy(&refusal.way_out))
        }
    }
}

/// What was written must be taken out where it was written.
fn refuse_moved(files: &Files, platform: &Platform, state: &State) -> Result<(), Stop> {
    let Some(record) = &state.config else { return Ok(()) };
    let fixed = !platform.layout.form.is_written();
    if record.path == platform.layout.path && !fixed {
        return Ok(());
    }
    let there = config_text(files, &record.path)?.is_some_and(|text| text.contains(&record.block));
    if !there || record.block.is_empty() {
        return Ok(());
    }
    let (old, new) = (record.path.display(), platform.layout.loaded.display());
    let words = if fixed {
        format!(
            "our handlers stand in {old}, which is not changed where CRI is switched off or the system does not let it"
        )
    } else {
        format!("our handlers stand in {old}, but the daemon now reads {new}")
    };
    Err(Stop::unchanged("look for the configuration", Reason::NodeAmbiguous, words)
        .with_remedy("let the daemon read the old file again, or take our block out of it by hand"))
}

fn config_text(files: &Files, path: &Path) -> Result<Option<String>, Stop> {
    let step = format!("read {}", path.display());
    let bytes = files.read(path).map_err(|error| Stop::unchanged(&step, Reason::ConfigNotReadable, error))?;
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
