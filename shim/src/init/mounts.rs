//! The mounts of a specification: taken outside of the root, attached inside.

use std::ffi::CString;

use rustix::fs::{CWD, FileType};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount, move_mount, open_tree,
};

use super::mount_options::{Bind, MountOptions};
use super::target::{Root, Target};
use super::{InitError, step};
use crate::in_root::Missing;
use crate::spec::Mount;

/// A mount, with its source in hand if it comes from the host.
pub(super) struct Source<'a> {
    mount: &'a Mount,
    options: MountOptions,
    tree: Option<Target>,
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

fn take(mount: &Mount, bind: Bind) -> Result<Target, InitError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, &mount.source, flags).map(Target::from).map_err(step(format!(
        "mounting {} at {}",
        mount.source.display(),
        mount.destination.display()
    )))
}

/// Mounts one source at its place in the root, which is created if it is not there.
///
/// # Errors
/// If it cannot be mounted.
pub(super) fn attach(root: &Root, source: Source<'_>) -> Result<(), InitError> {
    let Source { mount: Mount { destination, kind, source, .. }, options, tree } = source;
    let what = || format!("mounting {} at {}", source.display(), destination.display());
    let mounted = match tree {
        Some(tree) => {
            let folder = tree.file_type().map_err(step(what()))? == FileType::Directory;
            let missing = if folder { Missing::Folder } else { Missing::File };
            let place = root.place(destination, missing).map_err(step(what()))?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&tree, "", &place, "", flags).map_err(step(what()))?;
            // A remount replaces all flags. An image or a disk that is a volume may hold a node of the host's disk.
            let flags = tree.restrictions().map_err(step(what()))? | MountFlags::NODEV | options.flags;
            mount_remount(tree.path(), MountFlags::BIND | flags, c"").map_err(step(what()))?;
            tree
        }
        None => {
            let place = root.place(destination, Missing::Folder).map_err(step(what()))?;
            let data = CString::new(options.data.join(","));
            let data = data.map_err(|_| InitError::Unsupported("a zero byte in a mount's options".to_owned()))?;
            mount(source, place.path(), kind.as_str(), options.flags, data.as_c_str()).map_err(step(what()))?;
            // Again: the place is below what was mounted on it.
            root.place(destination, Missing::Folder).map_err(step(what()))?
        }
    };
    for propagation in options.propagation {
        mount_change(mounted.path(), propagation).map_err(step(what()))?;
    }
    Ok(())
}
