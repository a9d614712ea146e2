//! The mounts of a specification: taken outside of the root, attached inside.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount, move_mount, open_tree,
};

use super::mount_options::{Bind, MountOptions};
use super::{InitError, step};
use crate::spec::Mount;

/// A mount, with its source in hand if it comes from the host.
pub(super) struct Source<'a> {
    mount: &'a Mount,
    options: MountOptions,
    tree: Option<OwnedFd>,
}

/// Takes the sources of all mounts. The host's cgroup files are left out: no guest needs them.
///
/// # Errors
/// The first source that is not there.
pub(super) fn sources(mounts: &[Mount]) -> Result<Vec<Source<'_>>, InitError> {
    let mounts = mounts.iter().filter(|mount| mount.kind != "cgroup");
    mounts
        .map(|mount| {
            let options = MountOptions::parse(&mount.kind, &mount.options);
            let tree = options.bind.map(|bind| take(mount, bind)).transpose()?;
            Ok(Source { mount, options, tree })
        })
        .collect()
}

fn take(mount: &Mount, bind: Bind) -> Result<OwnedFd, InitError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, &mount.source, flags).map_err(step(format!(
        "mounting {} at {}",
        mount.source.display(),
        mount.destination.display()
    )))
}

/// Mounts one source at its place in the root, which is created if it is not there.
///
/// # Errors
/// If it cannot be mounted.
pub(super) fn attach(source: Source<'_>) -> Result<(), InitError> {
    let Source { mount: Mount { destination, kind, source, .. }, options, tree } = source;
    let what = || format!("mounting {} at {}", source.display(), destination.display());
    let destination = Path::new("/").join(destination);
    match tree {
        Some(tree) => {
            let folder = fstat(&tree).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            place(&destination, folder).map_err(step(what()))?;
            // The link at the end of the place counts: /etc/resolv.conf is one in many images.
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
            move_mount(&tree, "", CWD, &destination, flags).map_err(step(what()))?;
            if !options.flags.is_empty() {
                mount_remount(&destination, MountFlags::BIND | options.flags, c"").map_err(step(what()))?;
            }
        }
        None => {
            place(&destination, true).map_err(step(what()))?;
            let data = CString::new(options.data.join(","));
            let data = data.map_err(|_| InitError::Unsupported("a zero byte in a mount's options".to_owned()))?;
            mount(source, &destination, kind.as_str(), options.flags, data.as_c_str()).map_err(step(what()))?;
        }
    }
    for propagation in options.propagation {
        mount_change(&destination, propagation).map_err(step(what()))?;
    }
    Ok(())
}

/// Makes sure that there is a folder, or a file, to mount on.
fn place(path: &Path, folder: bool) -> io::Result<()> {
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    // A link to nowhere: what it means is created.
    let path = match fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("/")).join(target),
        Err(_) => PathBuf::from(path),
    };
    if folder {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_created_as_what_is_mounted_on_it() {
        let root = tempfile::tempdir().unwrap();
        place(&root.path().join("a/b"), true).unwrap();
        place(&root.path().join("etc/hosts"), false).unwrap();
        assert!(root.path().join("a/b").is_dir() && root.path().join("etc/hosts").is_file());
    }

    #[test]
    fn a_link_to_nowhere_is_given_what_it_means() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("run/resolve/stub.conf", root.path().join("resolv.conf")).unwrap();
        place(&root.path().join("resolv.conf"), false).unwrap();
        assert!(root.path().join("run/resolve/stub.conf").is_file());
    }

    #[test]
    fn what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("hosts"), "x").unwrap();
        place(&root.path().join("hosts"), false).unwrap();
        assert_eq!(fs::read(root.path().join("hosts")).unwrap(), b"x");
    }
}
