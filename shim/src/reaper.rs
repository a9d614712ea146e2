//! Collecting the exit codes of all children, and of orphans below them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code, or 128 + the signal that ended the process.
    pub(crate) code: u32,
    /// When it was collected.
    pub(crate) at: SystemTime,
}

/// Collects children. Each is claimed by [`Reaper::claim`] in the same breath as it is spawned: no other code of the shim's one thread
/// runs in between.
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
