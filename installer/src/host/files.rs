//! Every change of the node's file system goes through here, so that each can be made to fail in a test.
//!
//! Paths are the node's own and absolute. They are resolved below a root, as a `chroot` would, so that a tree
//! in a folder behaves as a node does.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// The kinds of change, for [`Gate`] and for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a directory.
    MakeDir,
    /// Write a new file's content.
    Write,
    /// Bring a file or a directory to the disk.
    Sync,
    /// Put a finished file, directory or link in its place.
    Rename,
    /// Create a symbolic or hard link.
    Link,
    /// Remove a file or a link.
    Unlink,
    /// Remove an empty directory.
    RemoveDir,
}

/// Is asked before each change; a test can refuse.
pub trait Gate {
    /// Whether the change may happen.
    ///
    /// # Errors
    /// What the change is to fail with.
    fn pass(&self, operation: Operation, path: &Path) -> io::Result<()>;

    /// Whether data is really brought to the disk; only a test can do without.
    fn syncs(&self) -> bool {
        true
    }
}

/// Lets everything pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {
    fn pass(&self, _: Operation, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

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

    /// Whether programs can be put below `path` and run from there, judged by how the file system under its
    /// nearest existing parent is mounted.
    #[must_use]
    pub fn takes_programs(&self, path: &Path) -> bool {
        let existing = path.ancestors().map(|path| self.real(&self.follow(path))).find(|path| path.exists());
        existing
            .and_then(|path| rustix::fs::statvfs(&path).ok())
            .is_some_and(|fs| !fs.f_flag.intersects(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC))
    }

    /// Creates a directory, mode 0755; one that exists is no error.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn make_dir(&self, path: &Path) -> Result<(), FileError> {
        let real = self.real(&self.follow(path));
        if real.is_dir() {
            return Ok(());
        }
        self.change(Operation::MakeDir, "create the directory", path, || {
            fs::create_dir(&real)?;
            fs::set_permissions(&real, fs::Permissions::from_mode(0o755))
        })?;
        self.sync_parent(path)
    }

    /// Puts a file in place at once: either the old content is there or the new, whatever happens. A symbolic
    /// link stays and its target is replaced.
    ///
    /// # Errors
    /// If it cannot be written; the old content is there then.
    pub fn replace(&self, path: &Path, content: &[u8], attributes: Attributes) -> Result<(), FileError> {
        let target = self.follow(path);
        let temporary = temporary(&target);
        let result =
            self.write_new(&temporary, attributes, &mut &*content).and_then(|()| self.rename(&temporary, &target));
        if result.is_err() {
            let _ = fs::remove_file(self.locate(&temporary));
        }
        result?;
        self.sync_parent(&target)
    }

    /// Writes a new file and brings it to the disk; one that is there is overwritten.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_new(&self, path: &Path, attributes: Attributes, content: &mut dyn io::Read) -> Result<(), FileError> {
        let real = self.locate(path);
        let file = self.change(Operation::Write, "write", path, || {
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&real)?;
            copy(content, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(attributes.mode & 0o7777))?;
            if let Some((user, group)) = attributes.owner {
                std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
            }
            Ok(file)
        })?;
        self.change(Operation::Sync, "sync", path, || if self.gate.syncs() { file.sync_all() } else { Ok(()) })
    }

    /// Renames within a directory or between two of one file system.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (old, new) = (self.locate(from), self.locate(to));
        self.change(Operation::Rename, "put in place", to, || fs::rename(&old, &new))?;
        self.sync_parent(to)
    }

    /// Makes `path` a symbolic link to `target`, replacing what is there at once.
    ///
    /// # Errors
    /// If it cannot be linked; what was there stays.
    pub fn link(&self, path: &Path, target: &Path) -> Result<(), FileError> {
        let temporary = temporary(path);
        let real = self.locate(&temporary);
        self.change(Operation::Link, "link", path, || {
            missing_is_none(fs::remove_file(&real))?;
            symlink(target, &real)
        })?;
        self.rename(&temporary, path)
    }

    /// Gives a file a second name; one that has that name already is replaced.
    ///
    /// # Errors
    /// If it cannot be linked.
    pub fn hard_link(&self, file: &Path, name: &Path) -> Result<(), FileError> {
        let (old, new) = (self.locate(file), self.locate(name));
        self.change(Operation::Link, "link", name, || {
            missing_is_none(fs::remove_file(&new))?;
            fs::hard_link(&old, &new)
        })?;
        self.sync_parent(name)
    }

    /// Removes a file or a link; one that is not there is no error.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<(), FileError> {
        let real = self.locate(path);
        if fs::symlink_metadata(&real).is_err() {
            return Ok(());
        }
        self.change(Operation::Unlink, "remove", path, || fs::remove_file(&real))?;
        self.sync_parent(path)
    }

    /// Removes a directory with all that is in it; one that is not there is no error. Links are removed, never followed.
    ///
    /// # Errors
    /// If something in it cannot be removed.
    pub fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        if self.link_metadata(path).is_none() {
            return Ok(());
        }
        for entry in self.names(path).into_iter().map(|name| path.join(name)) {
            let is_dir = self.link_metadata(&entry).is_some_and(|metadata| metadata.is_dir());
            if is_dir { self.remove_tree(&entry)? } else { self.remove(&entry)? }
        }
        self.remove_empty_dir(path).map(drop)
    }

    /// Removes a directory if nothing is in it, and says whether it is gone.
    ///
    /// # Errors
    /// If it is empty and cannot be removed.
    pub fn remove_empty_dir(&self, path: &Path) -> Result<bool, FileError> {
        let real = self.locate(path);
        match fs::read_dir(&real).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(failed("look into", path, error)),
        }
        self.change(Operation::RemoveDir, "remove the directory", path, || fs::remove_dir(&real))?;
        self.sync_parent(path)?;
        Ok(true)
    }

    /// Brings a directory's entries to the disk.
    ///
    /// # Errors
    /// If that fails.
    pub fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        let real = self.real(&self.follow(path));
        self.change(Operation::Sync, "sync", path, || {
            if self.gate.syncs() { File::open(&real)?.sync_all() } else { Ok(()) }
        })
    }

    fn sync_parent(&self, path: &Path) -> Result<(), FileError> {
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }

    fn change<T>(
        &self,
        operation: Operation,
        what: &'static str,
        path: &Path,
        action: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, FileError> {
        self.gate.pass(operation, path).and_then(|()| action()).map_err(|source| failed(what, path, source))
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

fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn copy(from: &mut dyn io::Read, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
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

/// A file outside of the node's file system, such as one of the bundle.
///
/// # Errors
/// If it cannot be read.
pub fn read_outside(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut content))
        .map_err(|source| failed("read", path, source))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn an_absolute_link_stays_inside_the_root() {
        let (root, files) = tree();
        symlink("/etc/real", root.path().join("etc/link")).unwrap();
        files.replace(Path::new("/etc/link"), b"new", Attributes::CONFIG).unwrap();
        assert_eq!(fs::read(root.path().join("etc/real")).unwrap(), b"new");
        assert_eq!(fs::read_link(root.path().join("etc/link")).unwrap(), Path::new("/etc/real"));
    }

    #[test]
    fn a_replaced_file_keeps_the_mode_it_is_given() {
        let (root, files) = tree();
        files.replace(Path::new("/etc/x"), b"1", Attributes { mode: 0o640, owner: None }).unwrap();
        assert_eq!(fs::metadata(root.path().join("etc/x")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(files.names(Path::new("/etc")), ["x"]);
    }

    #[test]
    fn a_link_replaces_a_running_program_by_rename() {
        let (root, files) = tree();
        fs::write(root.path().join("etc/program"), "old").unwrap();
        files.link(Path::new("/etc/program"), Path::new("/opt/new")).unwrap();
        assert_eq!(files.link_target(Path::new("/etc/program")).unwrap(), Path::new("/opt/new"));
    }

    #[test]
    fn a_directory_that_is_not_empty_stays() {
        let (root, files) = tree();
        fs::write(root.path().join("etc/x"), "").unwrap();
        assert!(!files.remove_empty_dir(Path::new("/etc")).unwrap());
        assert!(root.path().join("etc/x").exists());
    }
}
