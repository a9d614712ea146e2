//! One installer at a time on a node.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Where the lock is. The kernel drops it with its owner, and `/run` does not survive a reboot.
pub const LOCK: &str = "/run/kwasm-installer.lock";

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
    /// The file cannot be locked.
    #[error("cannot lock {LOCK}: {0}")]
    File(#[from] io::Error),
}

/// Takes the lock; `waiting` is called once if somebody else has it.
///
/// # Errors
/// If it cannot be had within `patience`.
pub fn take(path: &Path, patience: Duration, mut waiting: impl FnMut()) -> Result<Lock, LockError> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
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
            Err(error) => return Err(LockError::File(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_installer_waits_and_then_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = take(&path, Duration::ZERO, || {}).unwrap();
        let mut told = 0;
        let error = take(&path, Duration::from_millis(150), || told += 1).unwrap_err();
        assert!(matches!(error, LockError::Busy(_)), "{error}");
        assert_eq!(told, 1);
        drop(first);
        take(&path, Duration::ZERO, || {}).unwrap();
    }
}
