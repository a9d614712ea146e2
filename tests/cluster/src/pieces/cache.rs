//! The cache: one folder per piece, made under a lock, complete or absent.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::PieceError;
use crate::files::{self, FileError};
use crate::session::Session;

/// How long another process may take to make a piece we wait for: Kubernetes from nothing
/// takes eight minutes on two cores.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// Where a piece is made: its folder becomes the piece once all succeeded.
pub(crate) struct Workshop<'a> {
    /// The folder to fill.
    pub(crate) folder: &'a Path,
    /// Where tools may write their output.
    pub(crate) log: &'a Path,
}

/// The folder of the piece `name` made from `inputs`, by `make` if it is not there yet.
pub(crate) fn piece(
    name: &str,
    inputs: &[&str],
    session: &Session,
    make: impl FnOnce(&Workshop<'_>) -> Result<(), PieceError>,
) -> Result<PathBuf, PieceError> {
    let pieces = root()?.join("pieces");
    let folder = pieces.join(format!("{name}-{}", digest(inputs)));
    if folder.is_dir() {
        return Ok(folder);
    }
    files::make_folder(&pieces)?;
    let _lock = lock(&pieces.join(format!("{name}.lock")), name, session)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    session.say(format!("{name}: making it, once"));
    let started = Instant::now();
    let partial = folder.with_extension("partial");
    files::remove_folder(&partial)?;
    files::make_folder(&partial)?;
    make(&Workshop { folder: &partial, log: &pieces.join(format!("{name}.log")) })?;
    std::fs::rename(&partial, &folder).map_err(FileError::new("rename", &partial))?;
    session.say(format!("{name}: made in {} s", started.elapsed().as_secs()));
    Ok(folder)
}

fn root() -> Result<PathBuf, PieceError> {
    let given = std::env::var_os("KWASM_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/kwasm"));
    given.or_else(home).ok_or(PieceError::NoCache)
}

fn digest(inputs: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for input in inputs {
        // The length keeps ["ab", "c"] apart from ["a", "bc"].
        hasher.update(input.len().to_le_bytes());
        hasher.update(input.as_bytes());
    }
    hasher.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn lock(path: &Path, name: &str, session: &Session) -> Result<File, PieceError> {
    let file = File::create(path).map_err(FileError::new("make", path))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    session.say(format!("{name}: another process is making it, waiting"));
    session.wait(&format!("another process to make {name}"), PATIENCE, || {
        file.try_lock().map_err(|_| format!("{} is locked", path.display()))
    })?;
    Ok(file)
}
