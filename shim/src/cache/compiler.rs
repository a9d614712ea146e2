//! One run of the compiler.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::reaper::{Exit, Reaper};

/// As much of the compiler's message as is told, in bytes.
const MESSAGE_MAX: u64 = 2048;

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    /// The module cannot be compiled.
    #[error("the module is not valid for this runtime: {0}")]
    Invalid(String),
    /// The compiler ended without a word.
    #[error("compiling the module: the compiler ended with {0} (137 means killed: too little memory on the node?)")]
    Died(u32),
    /// The compiler cannot be started.
    #[error("starting the compiler {path}: {error}; is the runtime installed completely?")]
    NotStarted { path: PathBuf, error: io::Error },
}

/// A compiler at work; dropped before its time, it is killed.
struct Run {
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Once it was collected, its number may be somebody else's.
        if matches!(self.exit.try_recv(), Err(TryRecvError::Empty)) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Compiles `module` into `artefact`, with the folder `empty` as all that the compiler can see.
///
/// # Errors
/// If the module is invalid, or the compiler does not work.
pub(super) async fn run(
    compiler: &Path,
    reaper: &Reaper,
    empty: &Path,
    module: File,
    artefact: &File,
) -> Result<(), CompilerError> {
    let not_started = |error| CompilerError::NotStarted { path: compiler.to_path_buf(), error };
    DirBuilder::new().recursive(true).mode(0o555).create(empty).map_err(not_started)?;
    let message = memfd_create("compiler-message", MemfdFlags::CLOEXEC).map(File::from);
    let mut message = message.map_err(|errno| not_started(errno.into()))?;
    let share = |file: &File| file.try_clone().map(Stdio::from).map_err(not_started);
    let mut command = Command::new(compiler);
    command.env_clear().current_dir(empty).stdin(module).stdout(share(artefact)?).stderr(share(&message)?);
    let pid = Pid::from_raw(command.spawn().map_err(not_started)?.id().cast_signed());
    let mut run = Run { pid, exit: reaper.claim(pid) };
    let code = (&mut run.exit).await.map_or(255, |exit| exit.code);
    let mut text = String::new();
    let read = message.rewind().and_then(|()| message.take(MESSAGE_MAX).read_to_string(&mut text));
    match code {
        0 => Ok(()),
        1 if read.is_ok() && !text.trim().is_empty() => Err(CompilerError::Invalid(one_line(&text))),
        code => Err(CompilerError::Died(code)),
    }
}

/// A message for an event or a status, which show one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_told_in_one() {
        assert_eq!(one_line("invalid\n\nCaused by:\n    0: x\n"), "invalid Caused by: 0: x");
    }
}
