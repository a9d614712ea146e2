//! Collecting the exit codes of all children, and of orphans below them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code, or 128 + the signal that ended the process.
    pub(crate) code: u32,
    /// When it was collected.
    pub(crate) at: SystemTime,
}

/// How a program ended that was run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As in [`Exit`].
    pub(crate) code: u32,
    /// What it wrote to standard error, in one line and not all if it was much.
    pub(crate) message: String,
}

/// As much of a program's standard error as is told, in bytes.
const MESSAGE_MAX: u64 = 2048;

/// A running program; dropped before its end, it is killed.
struct Child {
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
}

impl Drop for Child {
    fn drop(&mut self) {
        // Once it was collected, its number may be somebody else's.
        if matches!(self.exit.try_recv(), Err(TryRecvError::Empty)) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Collects children. Each is claimed by [`Reaper::claim`] in the same breath as it is spawned: only one thread
/// of the shim starts processes, and no other code of it runs in between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaper {
    claims: Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Starts collecting in the background.
    ///
    /// # Errors
    /// If SIGCHLD cannot be handled.
    pub(crate) fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let mut children = signal(SignalKind::child())?;
        let collector = reaper.clone();
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                collector.collect();
            }
        });
        Ok(reaper)
    }

    /// The end of a child, when it comes.
    pub(crate) fn claim(&self, pid: Pid) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, sender);
        receiver
    }

    /// Runs a program to its end; dropped before, the program is killed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) async fn run(&self, command: &mut Command) -> io::Result<Ended> {
        let mut message = File::from(memfd_create("standard-error", MemfdFlags::CLOEXEC)?);
        let child = command.stderr(message.try_clone()?).spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut child = Child { pid, exit: self.claim(pid) };
        let code = (&mut child.exit).await.map_or(255, |exit| exit.code);
        let mut bytes = Vec::new();
        message.rewind()?;
        message.take(MESSAGE_MAX).read_to_end(&mut bytes)?;
        Ok(Ended { code, message: one_line(&String::from_utf8_lossy(&bytes)) })
    }

    fn collect(&self) {
        // Until no child has ended, or none is left.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
            let Some(code) = code else { continue };
            let pid = Pid::from_raw(pid.as_raw_nonzero().get());
            let claim = self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
            if let Some(claim) = claim {
                let _ = claim.send(Exit { code: code.unsigned_abs(), at: SystemTime::now() });
            }
        }
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
