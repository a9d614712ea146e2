//! Stepping from a pod into the node's own file system view.
//!
//! A node's Job mounts the node's `/` somewhere and shares the node's process ids. Instead of prefixing every
//! path and wrapping every command, the program enters the mount namespace of the node's first process while
//! it still has one thread; whatever it needs of its own image it has opened before.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why the node cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Process 1 is not the node's.
    #[error(
        "process 1 does not belong to the node mounted at {0}: the Job's pod needs `hostPID: true` and the node's `/` there"
    )]
    NotTheNode(String),
    /// The kernel refused.
    #[error("cannot enter the node's mount namespace: {0}: the Job's container needs `privileged: true`")]
    Refused(io::Error),
}

/// Enters the node whose `/` is mounted at `node_root`. Must be called before any thread is started.
///
/// # Errors
/// If process 1 is not the node's first, or the kernel refuses.
pub fn enter(node_root: &Path) -> Result<(), EnterError> {
    let foreign = || EnterError::NotTheNode(node_root.display().to_string());
    let expected = identity(node_root).map_err(|_| foreign())?;
    if identity(Path::new("/proc/1/root")).map_err(|_| foreign())? != expected {
        return Err(foreign());
    }
    let namespace = File::open("/proc/1/ns/mnt").map_err(EnterError::Refused)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|error| EnterError::Refused(error.into()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    // `/.` follows `/proc/1/root`, a link into another namespace.
    fs::metadata(path.join(".")).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_the_root_of_process_1_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = enter(folder.path()).unwrap_err();
        assert!(error.to_string().contains("the Job's pod needs `hostPID: true`"), "{error}");
    }
}
