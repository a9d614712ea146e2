//! What is mounted on: a path of the container, resolved in its root and held open.
//!
//! mount(2) takes paths and follows every link in them, and this process holds descriptors of the host. So it is given an
//! open place by its number in the process's own folder of descriptors, which is taken from the host's `/proc`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::{chdir, fchdir};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, makedev, openat};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{InitError, step};
use crate::in_root::{self, Missing};

/// The process's own descriptors, as the host's `/proc` shows them.
pub(super) struct Descriptors(OwnedFd);

impl Descriptors {
    /// Takes them, while the host's root can be seen.
    ///
    /// # Errors
    /// If the host has no `/proc`.
    pub(super) fn take() -> Result<Self, InitError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, "/proc/self/fd", flags, Mode::empty());
        opened.map(Self).map_err(step("opening the process's own descriptors"))
    }
}

/// The container's root, entered. As long as it is there, the working folder is that of the process's descriptors.
pub(super) struct Root(OwnedFd);

impl Root {
    /// The process's root.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) fn entered(descriptors: &Descriptors) -> Result<Self, InitError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty()).map_err(step("opening the container's root"))?;
        fchdir(&descriptors.0).map_err(step("entering the process's own descriptors"))?;
        Ok(Self(root))
    }

    /// Goes back to the root as working folder.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn done(self) -> Result<(), InitError> {
        chdir("/").map_err(step("entering the container's root"))
    }

    /// The place that `path` means, created if it is not there.
    ///
    /// # Errors
    /// If it cannot be created, or a link leads to a process's descriptors.
    pub(super) fn place(&self, path: &Path, missing: Missing) -> io::Result<Target> {
        in_root::place(&self.0, path, missing).map(Target)
    }

    /// The place that `path` means, if it is there.
    ///
    /// # Errors
    /// As for [`Root::place`].
    pub(super) fn existing(&self, path: &Path) -> io::Result<Option<Target>> {
        match in_root::open(&self.0, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            opened => Ok(Some(Target(opened?))),
        }
    }
}

/// An open place of the container, or a mount that is not attached yet.
pub(super) struct Target(OwnedFd);

impl Target {
    /// The path that mount(2) takes while there is a [`Root`].
    pub(super) fn path(&self) -> String {
        self.0.as_raw_fd().to_string()
    }

    /// What it is.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn file_type(&self) -> io::Result<FileType> {
        Ok(FileType::from_raw_mode(fstat(&self.0)?.st_mode))
    }

    /// What its mount forbids already.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn restrictions(&self) -> io::Result<MountFlags> {
        let own = fstatvfs(&self.0)?.f_flag;
        let known = [
            (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        ];
        Ok(known.into_iter().filter(|(flag, _)| own.contains(*flag)).map(|(_, flag)| flag).collect())
    }

    /// Whether it is what `/dev/null` should be: an image can put anything there.
    pub(super) fn is_null_device(&self) -> bool {
        fstat(&self.0).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
        })
    }
}

impl From<OwnedFd> for Target {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
