//! Paths in a container's root, where every link was made by a stranger.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// How many links to nowhere are followed to create one path; as many as the kernel follows to open one (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// How often a path is resolved anew that someone changed on the way, as its `..` demand (openat2(2), EAGAIN: every rename
/// and mount on the node counts).
const TRIES_MAX: u32 = 100;

/// What is created where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A folder.
    Folder,
    /// An empty file.
    File,
}

/// Opens `path` as if `root` were `/`. Links count, but for those that a process finds among its own descriptors
/// (`/proc/self/fd`): they lead anywhere.
///
/// # Errors
/// The kernel's answer; `LOOP` also for a link of that kind.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let once = || openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    let mut opened = once();
    for _ in 1..TRIES_MAX {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = once();
    }
    opened
}

/// The place that `path` means below `root`, created with its folders if it is not there. A link to nowhere is given what it
/// means: `/etc/resolv.conf` is one in many images.
///
/// # Errors
/// If it is not there and cannot be created.
pub(crate) fn place(root: impl AsFd, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => create(root, path, missing, LINKS_MAX)?,
        opened => return Ok(opened?),
    }
    Ok(open(root, path, OFlags::PATH)?)
}

fn create(root: BorrowedFd<'_>, path: &Path, missing: Missing, links: u32) -> io::Result<()> {
    let mut parts = path.components().peekable();
    let mut prefix = PathBuf::from("/");
    while let Some(part) = parts.next() {
        let missing = if parts.peek().is_some() { Missing::Folder } else { missing };
        match (part, open(root, &prefix.join(part), OFlags::PATH)) {
            (Component::Normal(name), Err(Errno::NOENT)) => create_one(root, &prefix, Path::new(name), missing, links)?,
            (_, opened) => drop(opened?),
        }
        prefix.push(part);
    }
    Ok(())
}

fn create_one(root: BorrowedFd<'_>, parent: &Path, name: &Path, missing: Missing, links: u32) -> io::Result<()> {
    let folder = open(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
    let created = match missing {
        Missing::Folder => mkdirat(&folder, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&folder, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match created {
        // It cannot be opened and it is there: a link to nowhere.
        Err(Errno::EXIST) if links > 0 => match readlinkat(&folder, name, Vec::new()) {
            Ok(target) => create(root, &parent.join(Path::new(&os_string(target))), missing, links - 1),
            // Another container of the pod, which shares a volume, was faster.
            Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        Err(Errno::EXIST) => Err(Errno::LOOP.into()),
        created => Ok(created?),
    }
}

fn os_string(text: std::ffi::CString) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(text.into_bytes())
}

#[cfg(test)]
mod tests;
