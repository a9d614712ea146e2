//! A gate that every change passes.

use std::io;
use std::path::Path;

/// The kinds of change, for [`Gate`] and for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a directory.
    MakeDir,
    /// Open a file to write to it: one that is not there is created, one that is there is emptied.
    Create,
    /// Write a piece of a file's content.
    Write,
    /// Give a file its mode and owner.
    SetAttributes,
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
