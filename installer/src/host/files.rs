//! The node's files. Every change of them goes through here, so that each can be made to fail in a test.
//!
//! Paths are the node's own and absolute. They are resolved below a root, as a `chroot` would, so that a tree
//! in a folder behaves as a node does.

mod change;
mod gate;

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

pub use gate::{Gate, Open, Operation};

/// A change or a look that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, in words.
    pub what: &'static str,
    /// With which file of the node.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Mode and owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner; `None`: whoever runs this program.
    pub owner: Option<(u32, u32)>,
}

impl Attributes {
    /// A program: everybody may run it.
    pub const PROGRAM: Self = Self { mode: 0o755, owner: None };
    /// A configuration file, as packages install it.
    pub const CONFIG: Self = Self { mode: 0o644, owner: None };
    /// What only root reads.
    pub const PRIVATE: Self = Self { mode: 0o600, owner: None };
}

/// The node's file system.
pub struct Files {
    root: PathBuf,
    gate: Box<dyn Gate>,
}

/// Symbolic links in a row before a path counts as a loop, as in Linux.
const MAX_LINKS: usize = 40;

impl Files {
    /// The file system below `root`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self::gated(root, Box::new(Open))
    }

    /// The file system below `root`, each change asking `gate`.
    #[must_use]
    pub fn gated(root: impl Into<PathBuf>, gate: Box<dyn Gate>) -> Self {
        Self { root: root.into(), gate }
    }

    /// Where the node's `path` is for this process; the last component is not followed if it is a link.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.real(&self.follow(parent).join(name)),
            _ => self.root.clone(),
        }
    }

    /// The node's path that `path` leads to when all links are followed, whether it exists or not.
    #[must_use]
    pub fn follow(&self, path: &Path) -> PathBuf {
        let mut todo: Vec<OsString> = components(path);
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            match fs::read_link(self.real(&next)) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    todo.extend(components(&target));
                }
                _ => done = next,
            }
        }
        done
    }

    /// A file's content; `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        missing_is_none(fs::read(self.real(&self.follow(path)))).map_err(|source| failed("read", path, source))
    }

    /// The last whole lines of a file, at most so many bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tail(&self, path: &Path, bytes: u64) -> Result<String, FileError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = fs::File::open(self.real(&self.follow(path)))?;
            let start = file.metadata()?.len().saturating_sub(bytes);
            file.seek(SeekFrom::Start(start))?;
            let mut end = Vec::new();
            file.take(bytes).read_to_end(&mut end)?;
            let cut = if start == 0 { None } else { end.iter().position(|byte| *byte == b'\n') };
            Ok(end.split_off(cut.map_or(0, |newline| newline + 1)))
        };
        let end = read().map_err(|source| failed("read", path, source))?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    }

    /// What a path leads to; `None` if nothing is there.
    #[must_use]
    pub fn metadata(&self, path: &Path) -> Option<Metadata> {
        fs::metadata(self.real(&self.follow(path))).ok()
    }

    /// What a path is, without following it; `None` if nothing is there.
    #[must_use]
    pub fn link_metadata(&self, path: &Path) -> Option<Metadata> {
        fs::symlink_metadata(self.locate(path)).ok()
    }

    /// The target of a symbolic link; `None` if it is none.
    #[must_use]
    pub fn link_target(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(self.locate(path)).ok()
    }

    /// Names in a directory, in order; none if there is no such directory.
    #[must_use]
    pub fn names(&self, path: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.real(&self.follow(path))) else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Mode and owner as a file has them.
#[must_use]
pub fn attributes_of(metadata: &Metadata) -> Attributes {
    Attributes { mode: metadata.mode() & 0o7777, owner: Some((metadata.uid(), metadata.gid())) }
}

/// The name under which a file is prepared beside its place. It does not end in `.toml`, so that no glob
/// import of a daemon takes it for a configuration.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.kwasm-new"))
}

/// Whether a file has such a name.
#[must_use]
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| prepared(name).is_some())
}

/// What is prepared under such a name; `None` if it is none.
#[must_use]
pub fn prepared(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".kwasm-new")
}

fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn missing_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError { what, path: path.to_owned(), source }
}
