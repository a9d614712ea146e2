//! One installer at a time on a node.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files::{FileError, Files};
use crate::failure::Reason;

/// Where the lock is. The kernel drops it with its owner, and `/run` does not survive a reboot.
const LOCK: &str = "/run/kwasm-installer.lock";

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another installer kept it.
    #[error("another kwasm-installer has been working on this node for more than {0} s")]
    Busy(u64),
    /// There is no file to lock.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel refuses.
    #[error("cannot lock {LOCK}: {0}")]
    Lock(#[from] Errno),
}

impl LockError {
    /// In one word.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Busy(_) => Reason::NodeBusy,
            Self::File(_) | Self::Lock(_) => Reason::FileNotChanged,
        }
    }
}

/// Takes the lock; `waiting` is called once if somebody else has it.
///
/// # Errors
/// If it cannot be had within `patience`.
pub fn take(files: &Files, patience: Duration, mut waiting: impl FnMut()) -> Result<Lock, LockError> {
    let file = files.open_lock(Path::new(LOCK))?;
    let started = Instant::now();
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) if started.elapsed() >= patience => return Err(LockError::Busy(patience.as_secs())),
            Err(Errno::WOULDBLOCK) => {
                if !std::mem::replace(&mut told, true) {
                    waiting();
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("run")).unwrap();
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn a_second_installer_waits_and_then_says_so() {
        let (_root, files) = node();
        let first = take(&files, Duration::ZERO, || {}).unwrap();
        let mut told = 0;
        let error = take(&files, Duration::from_millis(150), || told += 1).unwrap_err();
        assert!(matches!(error, LockError::Busy(_)), "{error}");
        assert_eq!(told, 1);
        drop(first);
        take(&files, Duration::ZERO, || {}).unwrap();
    }

    #[test]
    fn a_node_that_has_no_place_for_the_lock_says_so() {
        let (root, files) = node();
        std::fs::remove_dir(root.path().join("run")).unwrap();
        let error = take(&files, Duration::ZERO, || {}).unwrap_err();
        assert_eq!(error.to_string(), format!("create {LOCK}: No such file or directory (os error 2)"));
        assert_eq!(error.reason(), Reason::FileNotChanged);
    }
}
