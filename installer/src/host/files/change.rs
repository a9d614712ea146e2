//! What can be changed: each change is brought to the disk before the next.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink};
use std::path::Path;

use super::{Attributes, FileError, Files, Operation, failed, temporary};

/// How much is read before it is written.
const PIECE: usize = 256 * 1024;

impl Files {
    /// Creates a directory, mode 0755 less what the process masks; one that exists is no error.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn make_dir(&self, path: &Path) -> Result<(), FileError> {
        let real = self.real(&self.follow(path));
        if real.is_dir() {
            return Ok(());
        }
        self.change(Operation::MakeDir, "create the directory", path, || {
            fs::DirBuilder::new().mode(0o755).create(&real)
        })?;
        self.sync_parent(path)
    }

    /// Puts a file in place at once: either the old content is there or the new, whatever happens. A symbolic
    /// link stays and its target is replaced.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn replace(&self, path: &Path, content: &[u8], attributes: Attributes) -> Result<(), FileError> {
        self.replace_by(&temporary(&self.follow(path)), path, content, attributes)
    }

    /// The same, with the content prepared in a file of one's choice.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn replace_by(
        &self,
        draft: &Path,
        path: &Path,
        content: &[u8],
        attributes: Attributes,
    ) -> Result<(), FileError> {
        let target = self.follow(path);
        let result = self.write_new(draft, attributes, &mut &*content).and_then(|()| self.rename(draft, &target));
        if result.is_err() {
            // What stays in spite of this is overwritten or removed by the next run.
            self.remove(draft).ok();
        }
        result
    }

    /// Writes a new file and brings it to the disk; one that is there is overwritten.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_new(&self, path: &Path, attributes: Attributes, content: &mut dyn io::Read) -> Result<(), FileError> {
        let real = self.locate(path);
        let mut file = self.change(Operation::Create, "create", path, || {
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&real)
        })?;
        self.write_all(path, &mut file, content)?;
        self.change(Operation::SetAttributes, "set the mode and owner of", path, || {
            file.set_permissions(fs::Permissions::from_mode(attributes.mode & 0o7777))?;
            attributes.owner.map_or(Ok(()), |(user, group)| fchown(&file, Some(user), Some(group)))
        })?;
        self.change(Operation::Sync, "sync", path, || if self.gate.syncs() { file.sync_all() } else { Ok(()) })
    }

    /// Opens an empty file that is only there to be locked, by nobody but its owner: whoever may read a file may lock it.
    /// What is in memory needs no sync.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open_lock(&self, path: &Path) -> Result<File, FileError> {
        let real = self.locate(path);
        self.change(Operation::Create, "create", path, || {
            File::options().create(true).truncate(false).write(true).mode(0o600).open(&real)
        })
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
        self.remove(&temporary)?;
        self.change(Operation::Link, "link", path, || symlink(target, &real))?;
        self.rename(&temporary, path)
    }

    /// Gives a file a second name; one that has that name already is replaced.
    ///
    /// # Errors
    /// If it cannot be linked.
    pub fn hard_link(&self, file: &Path, name: &Path) -> Result<(), FileError> {
        let (old, new) = (self.locate(file), self.locate(name));
        self.remove(name)?;
        self.change(Operation::Link, "link", name, || fs::hard_link(&old, &new))?;
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
        match self.link_metadata(path) {
            None => return Ok(()),
            Some(entry) if !entry.is_dir() => return self.remove(path),
            Some(_) => {}
        }
        for entry in self.names(path).into_iter().map(|name| path.join(name)) {
            let is_dir = self.link_metadata(&entry).is_some_and(|metadata| metadata.is_dir());
            if is_dir { self.remove_tree(&entry)? } else { self.remove(&entry)? }
        }
        self.remove_empty_dir(path).map(drop)
    }

    /// Removes a directory if nothing is in it, and says whether it is gone. A link to a directory stays, and so does
    /// a mount point: somebody else put it there.
    ///
    /// # Errors
    /// If it is empty and cannot be removed.
    pub fn remove_empty_dir(&self, path: &Path) -> Result<bool, FileError> {
        let real = self.locate(path);
        if self.link_target(path).is_some() {
            return Ok(false);
        }
        match fs::read_dir(&real).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(failed("look into", path, error)),
        }
        match self.change(Operation::RemoveDir, "remove the directory", path, || fs::remove_dir(&real)) {
            Err(error) if error.source.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
            removed => removed?,
        }
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

    /// Each piece in two halves: a disk that is full, or a run that is killed, leaves part of a file, however small.
    fn write_all(&self, path: &Path, file: &mut File, content: &mut dyn io::Read) -> Result<(), FileError> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = fill(&mut buffer, content).map_err(|source| failed("write", path, source))?;
            let (first, second) = buffer[..count].split_at(count / 2);
            for half in [first, second].into_iter().filter(|half| !half.is_empty()) {
                self.change(Operation::Write, "write", path, || file.write_all(half))?;
            }
            if count < PIECE {
                return Ok(());
            }
        }
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
}

/// Reads until the buffer is full or nothing comes any more.
fn fill(buffer: &mut [u8], from: &mut dyn io::Read) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn tree() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn a_tree_that_is_a_link_goes_without_what_it_leads_to() {
        let (root, files) = tree();
        fs::create_dir(root.path().join("elsewhere")).unwrap();
        fs::write(root.path().join("elsewhere/file"), "theirs").unwrap();
        symlink("/elsewhere", root.path().join("etc/link")).unwrap();
        assert!(!files.remove_empty_dir(Path::new("/etc/link")).unwrap());
        files.remove_tree(Path::new("/etc/link")).unwrap();
        assert_eq!(fs::read(root.path().join("elsewhere/file")).unwrap(), b"theirs");
        assert!(fs::symlink_metadata(root.path().join("etc/link")).is_err());
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
