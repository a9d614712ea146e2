//! A virtual machine with cgroup v2 and a power switch, for what nested nodes cannot show.
//!
//! It runs the nodes' base system with Debian's kernel, in an emulator without acceleration: a
//! stock kernel boots anywhere, in ten to thirty seconds. Nothing of it has a name on this machine: disk and
//! console are files without a path, and the emulator is killed when this process ends, however it ends.
//!
//! ```no_run
//! use kwasm_test_cluster::Session;
//! use kwasm_test_cluster::vm::{Disk, Machine};
//!
//! let session = Session::to_stderr();
//! let disk = Disk::new(&session)?;
//! let machine = Machine::boot(&disk, &session)?;
//! machine.write("/root/kept", b"kept")?;
//! machine.run(&["sync", "/root/kept"])?;
//! machine.power_cut();
//! let machine = Machine::boot(&disk, &session)?;
//! assert_eq!(machine.run(&["cat", "/root/kept"])?, "kept");
//! machine.shut_down()?;
//! # Ok::<(), kwasm_test_cluster::vm::VmError>(())
//! ```

mod channel;
mod console;
mod disk;
mod emulator;
mod image;
mod machine;

use std::process::ExitStatus;
use std::time::Duration;

use crate::files::FileError;
use crate::pieces::PieceError;
use crate::preflight::PreflightError;
use crate::session::WaitError;
use crate::tool::ToolError;

pub use disk::Disk;
pub use machine::{DEFAULT_LIMIT, Machine};

/// A virtual machine that could not be made, booted or talked to.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// This machine cannot hold one.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Its image could not be made.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// A file of it could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A signal came.
    #[error(transparent)]
    Interrupted(WaitError),
    /// The emulator could not be started or waited for.
    #[error("could not run the emulator: {0}")]
    Emulator(std::io::Error),
    /// Its agent said nothing in time.
    #[error("the virtual machine did not {doing} within {} s: look at the end of its console:\n{console}", limit.as_secs())]
    Silent {
        /// What it was to do.
        doing: String,
        /// How long it had.
        limit: Duration,
        /// The console's last lines.
        console: String,
    },
    /// It ended while something was asked of it.
    #[error("the virtual machine ended ({status}) when it was to {doing}: look at the end of its console:\n{console}")]
    Ended {
        /// What it was to do.
        doing: String,
        /// How the emulator ended.
        status: ExitStatus,
        /// The console's last lines.
        console: String,
    },
    /// It runs, but an earlier problem ended the conversation.
    #[error("cannot {doing} in the virtual machine: it stopped answering earlier; cut its power and boot it again")]
    Unreachable {
        /// What it was to do.
        doing: String,
    },
    /// Its agent answered something that is no answer.
    #[error("the virtual machine's agent answered `{0}`: something else writes to its port `agent`, boot it again")]
    Garbled(String),
    /// A command took too long and was ended.
    #[error("in the virtual machine, `{command}` took more than {} s: give it more with exec_within", limit.as_secs())]
    TooSlow {
        /// The command.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// A command failed.
    #[error("in the virtual machine, `{command}` failed ({status}): {said}")]
    CommandFailed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        said: String,
    },
}
