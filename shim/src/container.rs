//! One container: what the shim knows of it from Create to Delete.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwasm_shim_protocol::control::{Command, encode};
use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::cgroup::{Cgroup, CgroupError};
use crate::reaper::Exit;
use crate::spec::Role;
use crate::stdio::{Input, StdioPaths};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Prepared, waiting for Start.
    Created,
    /// Started.
    Running,
    /// Started and stopped by the freezer.
    Paused,
    /// Its process has ended.
    Stopped(Exit),
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    /// containerd's id.
    pub(crate) id: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// Its part in the pod.
    pub(crate) role: Role,
    /// Its process, as the host sees it.
    pub(crate) pid: Pid,
    /// Its cgroup.
    pub(crate) cgroup: Cgroup,
    /// Its input and output.
    pub(crate) stdio: StdioPaths,
    phase: watch::Sender<Phase>,
    held: Mutex<Held>,
}

/// Descriptors that the shim holds for a container.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The control socket, until Start.
    pub(crate) control: Option<UnixStream>,
    /// The input, until containerd or its client closes it.
    pub(crate) stdin: Option<Input>,
    /// The outputs' FIFOs.
    #[expect(dead_code, reason = "held open, never read")]
    pub(crate) outputs: Vec<File>,
}

/// What identifies a container and its process.
pub(crate) struct Identity {
    /// containerd's id.
    pub(crate) id: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// Its part in the pod.
    pub(crate) role: Role,
    /// Its process.
    pub(crate) pid: Pid,
}

impl Container {
    /// A container whose process is prepared.
    pub(crate) fn new(identity: Identity, cgroup: Cgroup, stdio: StdioPaths, held: Held) -> Self {
        let Identity { id, bundle, role, pid } = identity;
        let (phase, _) = watch::channel(Phase::Created);
        Self { id, bundle, role, pid, cgroup, stdio, phase, held: Mutex::new(held) }
    }

    /// Where it is in its life.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves it on, unless it has stopped: that is final.
    pub(crate) fn set_phase(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let moves = !matches!(phase, Phase::Stopped(_));
            if moves {
                *phase = next;
            }
            moves
        });
    }

    /// Lets the prepared process run.
    ///
    /// # Errors
    /// If it has ended already.
    pub(crate) fn release(&self) -> io::Result<()> {
        // A sandbox has no control socket: it rests as soon as it is prepared.
        let Some(control) = self.held().control.take() else { return Ok(()) };
        let message = encode(&Command::Go)?;
        // A message of some bytes always fits a socket in which nothing waits.
        match control.try_write(&message)? {
            written if written == message.len() => Ok(()),
            _ => Err(io::Error::other("the control socket is full")),
        }
    }

    /// Closes the container's input.
    pub(crate) fn close_stdin(&self) {
        self.held().stdin = None;
    }

    /// Closes the container's input as soon as its client has, where that is the end of it.
    pub(crate) async fn close_stdin_with_its_client(&self) {
        let clients = self.held().stdin.as_mut().and_then(Input::take_clients);
        if let Some(clients) = clients {
            clients.closed().await;
            self.close_stdin();
        }
    }

    /// Sends a signal by number, real-time ones too.
    ///
    /// # Errors
    /// `ESRCH` if it has ended; `EINVAL` if there is no such signal.
    pub(crate) fn signal(&self, number: i32) -> Result<(), Errno> {
        if matches!(self.phase(), Phase::Stopped(_)) {
            return Err(Errno::ESRCH);
        }
        send_signal(self.pid, number)?;
        if number == SIGKILL {
            // What is frozen by a cgroup of version 1 dies only when it thaws.
            let _ = self.cgroup.freeze(false);
        }
        Ok(())
    }

    /// Waits for the end of the process.
    pub(crate) async fn stopped(&self) -> Option<Exit> {
        let mut phase = self.phase.subscribe();
        let stopped = phase.wait_for(|phase| matches!(phase, Phase::Stopped(_))).await.ok()?;
        match *stopped {
            Phase::Stopped(exit) => Some(exit),
            _ => None,
        }
    }

    /// Removes the cgroup of a container whose process has ended.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) async fn remove_cgroup(&self) -> Result<(), CgroupError> {
        // The kernel takes a moment to let go of a process that was collected.
        for pause in [1, 2, 5, 10, 20, 50, 100, 200, 500] {
            if self.cgroup.remove().is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.cgroup.kill_and_remove(Duration::ZERO)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(
    unsafe_code,
    reason = "neither nix nor rustix can name a real-time signal, which an image may have as its stop signal"
)]
fn send_signal(pid: Pid, number: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes numbers and touches no memory. The process is a child that was not collected yet, so its number
    // is still its own.
    Errno::result(unsafe { nix::libc::kill(pid.as_raw(), number) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_killed_thaws() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::in_test(dir.path(), "c1");
        let state = dir.path().join("c1/freezer.state");
        fs::write(&state, "FROZEN").unwrap();
        let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(process.id().cast_signed());
        let identity = Identity { id: "c1".to_owned(), bundle: PathBuf::new(), role: Role::Guest, pid };
        let container = Container::new(identity, cgroup, StdioPaths::default(), Held::default());
        container.signal(nix::libc::SIGCONT).unwrap();
        assert_eq!(fs::read_to_string(&state).unwrap(), "FROZEN", "any other signal waits");
        container.signal(SIGKILL).unwrap();
        assert_eq!(fs::read_to_string(&state).unwrap(), "THAWED");
        assert_eq!(process.wait().unwrap().signal(), Some(SIGKILL));
    }
}
