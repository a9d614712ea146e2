//! The programs that were installed together with this one.

use std::io;
use std::path::PathBuf;

/// The three programs of one version, in one folder. An upgrade installs a new folder; a running pod keeps the one
/// it was started from.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// This program.
    pub(crate) shim: PathBuf,
    /// `wasmtime-engine`.
    pub(crate) engine: PathBuf,
    /// `wasmtime-compiler`.
    pub(crate) compiler: PathBuf,
}

impl Installation {
    /// The folder of the running program, links resolved.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let shim = std::fs::read_link("/proc/self/exe")?;
        let sibling = |name| shim.with_file_name(name);
        Ok(Self { engine: sibling("wasmtime-engine"), compiler: sibling("wasmtime-compiler"), shim })
    }
}
