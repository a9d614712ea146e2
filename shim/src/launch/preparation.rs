//! A container's process while it is prepared: started, spoken with over its control socket, and killed if that ends early.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Command as Process;

use kwasm_shim_protocol::control::{Answer, ReceiveError, decode, encode, length};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::LaunchError;
use crate::reaper::{Exit, Reaper};
use crate::spec::{NamespaceKind, Spec};
use crate::stdio::{self, StdioPaths};

/// A process that is being prepared; dropped before its time, it is killed.
pub(super) struct Preparation {
    /// The process.
    pub(super) pid: Pid,
    /// Its end, until it has an owner.
    pub(super) exit: Option<oneshot::Receiver<Exit>>,
    /// The control socket.
    pub(super) control: Option<UnixStream>,
    /// What keeps its outputs open.
    pub(super) outputs: Vec<File>,
}

impl Drop for Preparation {
    fn drop(&mut self) {
        // `exit` is taken when the process has its owner. Once it was collected, its number may be somebody else's.
        if self.exit.as_mut().is_some_and(|exit| matches!(exit.try_recv(), Err(TryRecvError::Empty))) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

impl Preparation {
    /// Starts `init` as a child in the container's PID namespace.
    ///
    /// # Errors
    /// If its outputs cannot be opened, or it cannot be started.
    pub(super) fn start(spec: &Spec, stdio: &StdioPaths, reaper: &Reaper) -> Result<Self, LaunchError> {
        let system = |step| move |error| LaunchError::System { step, error };
        let (stdout, stderr) = (stdio::output(&stdio.stdout)?, stdio::output(&stdio.stderr)?);
        let (control, theirs) = StdUnixStream::pair().map_err(system("creating the control socket"))?;
        control.set_nonblocking(true).map_err(system("creating the control socket"))?;
        let control = UnixStream::from_std(control).map_err(system("creating the control socket"))?;
        let mut command = Process::new("/proc/self/exe");
        command.arg("init").env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(stdout.writer).stderr(stderr.writer);
        let pid = in_pid_namespace(spec, || command.spawn()).map_err(system("starting the container's process"))?;
        let exit = Some(reaper.claim(pid));
        let outputs = [stdout.keeper, stderr.keeper].into_iter().flatten().collect();
        Ok(Self { pid, exit, control: Some(control), outputs })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub(super) async fn tell(&mut self, message: &impl Serialize) -> Result<(), LaunchError> {
        let bytes = encode(message).map_err(|error| LaunchError::System { step: "writing a message", error })?;
        match self.control.as_mut() {
            // An end without a word is noticed by whoever waits for the answer.
            Some(control) => drop(control.write_all(&bytes).await),
            None => return Err(LaunchError::Process("the control socket is closed".to_owned())),
        }
        Ok(())
    }

    /// Waits for this answer.
    ///
    /// # Errors
    /// Any other answer, or the end of the process.
    pub(super) async fn expect(&mut self, expected: Answer) -> Result<(), LaunchError> {
        match self.receive().await {
            Ok(answer) if answer == expected => Ok(()),
            Ok(Answer::Failed { message }) => Err(LaunchError::Process(message)),
            Ok(Answer::Incompatible { reason }) => Err(LaunchError::Incompatible(reason)),
            Ok(other) => Err(LaunchError::Process(format!("{other:?} instead of {expected:?}"))),
            Err(_) => Err(self.died().await),
        }
    }

    async fn receive(&mut self) -> Result<Answer, ReceiveError> {
        let control = self.control.as_mut().ok_or(ReceiveError::Closed)?;
        let mut header = [0; 4];
        control.read_exact(&mut header).await.map_err(ReceiveError::Io)?;
        let mut json = vec![0; length(header)?];
        control.read_exact(&mut json).await.map_err(ReceiveError::Io)?;
        decode(&json)
    }

    async fn died(&mut self) -> LaunchError {
        let exit = match self.exit.as_mut() {
            Some(exit) => exit.await.ok(),
            None => None,
        };
        match exit.map_or(255, |exit| exit.code) {
            code @ 137 => LaunchError::Died { code, hint: " (killed; is the container's memory limit too small?)" },
            code => LaunchError::Died { code, hint: "" },
        }
    }
}

/// Runs `spawn` so that the child is in the PID namespace that the specification asks for. The shim's thread itself
/// stays in its own namespace: only new children are elsewhere (pid_namespaces(7)).
fn in_pid_namespace(spec: &Spec, spawn: impl FnOnce() -> io::Result<std::process::Child>) -> io::Result<Pid> {
    let namespace = spec.namespace(&NamespaceKind::Pid);
    let own = File::open("/proc/self/ns/pid")?;
    match namespace {
        None => {}
        Some(namespace) if namespace.path.as_os_str().is_empty() => unshare(CloneFlags::CLONE_NEWPID)?,
        Some(namespace) => setns(File::open(&namespace.path)?, CloneFlags::CLONE_NEWPID)?,
    }
    let spawned = spawn();
    if namespace.is_some() {
        setns(own, CloneFlags::CLONE_NEWPID)?;
    }
    Ok(Pid::from_raw(spawned?.id().cast_signed()))
}
