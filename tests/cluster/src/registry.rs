//! The clusters of this machine: one folder each, below `$KWASM_CLUSTERS` or `/var/lib/kwasm-clusters`.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::files::{self, FileError};
use crate::limits;
use crate::names::ClusterName;
use crate::network::{self, Network};
use crate::tool::ToolError;

/// How long a lock may be held by what a killed process was just starting.
const PATIENCE: Duration = Duration::from_secs(3);

const DEFAULT_ROOT: &str = "/var/lib/kwasm-clusters";

/// A name or place for a cluster that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The machine's network could not be looked at.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The name is in use.
    #[error("there is a cluster `{0}` already: use another --name, or remove it with `cluster down --name {0}`")]
    Exists(ClusterName),
    /// There is no such cluster.
    #[error("there is no cluster `{0}`: `cluster status` lists those there are, `cluster up --name {0}` makes it")]
    Unknown(ClusterName),
    /// Another process works on it.
    #[error("another process is changing cluster `{0}`: wait for it, or end it")]
    Busy(ClusterName),
    /// All networks are taken.
    #[error("all networks from 10.200.0.0/16 to 10.255.0.0/16 are in use on this machine")]
    NoNetwork,
    /// The folder is not on a file system that nodes can use.
    #[error("{} is not usable as $KWASM_CLUSTERS: its path has one of the characters `:,\\` or blanks", .0.display())]
    BadRoot(PathBuf),
}

/// The folder of a cluster, locked against other processes that would change it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) name: ClusterName,
    pub(crate) folder: PathBuf,
    _lock: File,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Identity {
    network: Network,
}

/// The folder that holds the clusters' folders.
fn root() -> Result<PathBuf, RegistryError> {
    let root = std::env::var_os("KWASM_CLUSTERS").map_or_else(|| PathBuf::from(DEFAULT_ROOT), PathBuf::from);
    let text = root.to_string_lossy();
    if !root.is_absolute() || text.contains([':', ',', '\\', ' ', '\n', '\t']) {
        return Err(RegistryError::BadRoot(root));
    }
    Ok(root)
}

/// The folder of a cluster.
pub(crate) fn folder(name: &ClusterName) -> Result<PathBuf, RegistryError> {
    Ok(root()?.join(name.to_string()))
}

/// The cgroup of a cluster.
pub(crate) fn cgroup(name: &ClusterName) -> Cgroup {
    Cgroup::at(format!("kwasm-{name}"))
}

/// The clusters there are, whole or not.
///
/// # Errors
/// When the folder of clusters cannot be read.
pub fn names() -> Result<Vec<ClusterName>, RegistryError> {
    let folders = files::list(&root()?)?;
    Ok(folders.iter().filter_map(|folder| folder.file_name()?.to_str()?.parse().ok()).collect())
}

/// The network of an existing cluster; none if it was given up before it had one.
pub(crate) fn network(folder: &Path) -> Option<Network> {
    let text = std::fs::read_to_string(folder.join("cluster.json")).ok()?;
    serde_json::from_str::<Identity>(&text).ok().map(|identity| identity.network)
}

/// Makes the folder of a new cluster and finds it a network that nothing else uses.
pub(crate) fn claim_new(name: &ClusterName) -> Result<(Claim, Network), RegistryError> {
    let root = root()?;
    // One process at a time chooses, so that two do not choose the same network.
    let _choosing = loop {
        files::make_folder(&root)?;
        match open_locked(&root) {
            // The last cluster's removal takes the folder with it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(lock) if root.is_dir() => break lock,
            Ok(_) => {}
        }
    };
    let folder = root.join(name.to_string());
    match std::fs::create_dir(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(RegistryError::Exists(name.clone())),
        Err(error) => return Err(FileError::new("make the folder", &folder)(error).into()),
    }
    let claim = claim(name)?;
    // After the folder is there: whoever removes that puts the limit back.
    limits::raise(&root)?;
    let network = free_network()?;
    let text = serde_json::to_string(&Identity { network }).unwrap_or_default();
    files::write(&folder.join("cluster.json"), text)?;
    Ok((claim, network))
}

fn free_network() -> Result<Network, RegistryError> {
    let mut taken = Vec::new();
    for folder in files::list(&root()?)? {
        taken.extend(network(&folder));
    }
    let (routes, links) = network::survey()?;
    let mut all = (0..network::CLUSTERS).filter_map(Network::of);
    let free = all.find(|network| !taken.contains(network) && !network.is_taken(&routes, &links));
    free.ok_or(RegistryError::NoNetwork)
}

/// Locks an existing cluster.
pub(crate) fn claim(name: &ClusterName) -> Result<Claim, RegistryError> {
    let folder = folder(name)?;
    if !folder.is_dir() {
        return Err(RegistryError::Unknown(name.clone()));
    }
    let lock = File::open(&folder).map_err(FileError::new("open", &folder))?;
    let started = Instant::now();
    while lock.try_lock().is_err() {
        if started.elapsed() > PATIENCE {
            return Err(RegistryError::Busy(name.clone()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Claim { name: name.clone(), folder, _lock: lock })
}

fn open_locked(folder: &Path) -> Result<File, FileError> {
    let file = File::open(folder).map_err(FileError::new("open", folder))?;
    file.lock().map_err(FileError::new("lock", folder))?;
    Ok(file)
}

impl Claim {
    /// Removes the folder; with the last cluster also the folder of all, after the machine's limit
    /// went back to what it was.
    pub(crate) fn remove(self) -> Result<(), FileError> {
        let Some(root) = self.folder.parent() else { return Ok(()) };
        let _removing = open_locked(root)?;
        let is_last = files::list(root)?.iter().all(|path| *path == self.folder || !path.is_dir());
        if is_last {
            limits::restore(root)?;
        }
        files::remove_folder(&self.folder)?;
        if is_last {
            std::fs::remove_dir(root).map_err(FileError::new("remove the folder", root))?;
        }
        Ok(())
    }
}
