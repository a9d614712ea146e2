//! The emulator's process: ours alone, and gone when we are.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::session::{Session, WaitError};

/// A running emulator. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Emulator {
    handle: OwnedFd,
    status: Arc<OnceLock<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts it, from a command that is bound to the life of the thread that starts it.
    pub(super) fn start(command: Command) -> io::Result<Self> {
        let status = Arc::new(OnceLock::new());
        let (sender, receiver) = mpsc::channel();
        let waiter = std::thread::spawn({
            let status = Arc::clone(&status);
            // This thread lives as long as the emulator: the caller's may end before.
            move || attend(command, &sender, &status)
        });
        let handle = receiver.recv().map_err(io::Error::other)??;
        Ok(Self { handle, status, waiter: Some(waiter) })
    }

    /// How it ended, if it did.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status.get().copied()
    }

    /// Waits until it ends by itself.
    pub(super) fn wait(&self, limit: Duration, session: &Session) -> Result<ExitStatus, WaitError> {
        session.wait("the emulator to end", limit, || self.status().ok_or_else(|| "it runs".to_owned()))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = pidfd_send_signal(self.handle.as_fd(), Signal::KILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Starts the child, tells whether that worked, and waits for its end.
fn attend(mut command: Command, started: &Sender<io::Result<OwnedFd>>, status: &OnceLock<ExitStatus>) {
    let child = command.spawn();
    // It holds the child's end of the channel: with it, nobody would notice when the child ends.
    drop(command);
    let opened = child.and_then(|child| match open(&child) {
        Ok(handle) => Ok((child, handle)),
        Err(error) => Err(abandon(child, error)),
    });
    let mut child = match opened {
        Ok((child, handle)) => {
            let _ = started.send(Ok(handle));
            child
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    if let Ok(ended) = child.wait() {
        let _ = status.set(ended);
    }
}

/// A handle that stays this child's when its pid is used again.
fn open(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

fn abandon(mut child: Child, error: io::Error) -> io::Error {
    let _ = child.kill();
    let _ = child.wait();
    error
}
