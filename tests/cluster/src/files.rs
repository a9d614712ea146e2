//! File operations whose errors name the path.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}: {source}", path.display())]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// What the operating system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// A closure for `map_err` that adds what was being done to `path`.
    pub fn new(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { doing, path, source }
    }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(FileError::new("read", path))
}

/// Writes a file, making the folders above it.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    std::fs::write(path, text).map_err(FileError::new("write", path))
}

/// Writes a file that only root may read.
pub(crate) fn write_secret(path: &Path, text: impl AsRef<[u8]>) -> Result<(), FileError> {
    write(path, text)?;
    set_mode(path, 0o600)
}

/// Writes a file that may be executed.
pub(crate) fn write_program(path: &Path, text: impl AsRef<[u8]>) -> Result<(), FileError> {
    write(path, text)?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(FileError::new("set the mode of", path))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::new("make the folder", path))
}

/// Makes the symbolic link `path`, and the folders above it, pointing to `target`.
pub(crate) fn link(path: &Path, target: &str) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    symlink(target, path).map_err(FileError::new("make the link", path))
}

/// Removes a folder and what is in it. One that is gone already is no error.
pub(crate) fn remove_folder(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove the folder", path)(error)),
        _ => Ok(()),
    }
}

/// The paths in a folder, sorted. A folder that does not exist is empty.
pub(crate) fn list(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("list", path)(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(FileError::new("list", path))?;
    paths.sort();
    Ok(paths)
}
