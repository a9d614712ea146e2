//! From a Create request to a process that waits for its start.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use kwasm_shim_protocol::control::{Answer, Command, ReceiveError, decode, encode, length};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::cache::{CACHE_DIR, Cache, CacheError};
use crate::cgroup::{Cgroup, CgroupError};
use crate::container::Held;
use crate::entry_point::{NoCommand, entry_point};
use crate::init::Setup;
use crate::installation::Installation;
use crate::program::{self, ProgramError};
use crate::reaper::{Exit, Reaper};
use crate::spec::{Mount, Role, Spec, SpecError};
use crate::stdio::{self, StdioError, StdioPaths};

/// Why a container was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The bundle.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The command.
    #[error(transparent)]
    NoCommand(#[from] NoCommand),
    /// The program's file.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The compilation.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The output.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// A terminal was asked for.
    #[error(
        "a WebAssembly container has no terminal in this runtime yet: set `tty: false` in the pod (kubectl run without -t)"
    )]
    Terminal,
    /// The process said what went wrong.
    #[error("{0}")]
    Process(String),
    /// The process ended without a word.
    #[error("the container's process ended with {code} while it was prepared{hint}")]
    Died { code: u32, hint: &'static str },
    /// The engine refused an artefact that was compiled just now.
    #[error("the engine refuses what the compiler wrote: {0}; are the runtime's programs of one version?")]
    Incompatible(String),
    /// A system call of the shim failed.
    #[error("{step}: {error}")]
    System { step: &'static str, error: io::Error },
}

/// What Create asks for.
#[derive(Debug)]
pub(crate) struct Request {
    /// containerd's id.
    pub(crate) id: String,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// What to mount as the root.
    pub(crate) rootfs: Vec<Mount>,
    /// The outputs.
    pub(crate) stdio: StdioPaths,
    /// Whether a terminal is wanted.
    pub(crate) terminal: bool,
}

/// A process that waits for its start.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The process.
    pub(crate) pid: Pid,
    /// Its end.
    pub(crate) exit: oneshot::Receiver<Exit>,
    /// Its cgroup.
    pub(crate) cgroup: Cgroup,
    /// Its part in the pod.
    pub(crate) role: Role,
    /// What is held for it.
    pub(crate) held: Held,
}

/// Prepares containers.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// The programs.
    pub(crate) installation: Installation,
    /// Collects what ends.
    pub(crate) reaper: Reaper,
    /// Compiled modules.
    pub(crate) cache: Cache,
}

/// A process that is being prepared; dropped before its time, it is killed.
struct Preparation {
    pid: Pid,
    exit: Option<oneshot::Receiver<Exit>>,
    control: Option<UnixStream>,
    outputs: Vec<File>,
}

impl Drop for Preparation {
    fn drop(&mut self) {
        // `exit` is taken when the process has its owner. Once it was collected, its number may be somebody else's.
        if self.exit.as_mut().is_some_and(|exit| matches!(exit.try_recv(), Err(TryRecvError::Empty))) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

impl Launcher {
    /// Prepares a container.
    ///
    /// # Errors
    /// In words for whoever reads the pod's events; nothing is left behind then.
    pub(crate) async fn launch(&self, request: &Request) -> Result<Launched, LaunchError> {
        if request.terminal {
            return Err(LaunchError::Terminal);
        }
        let spec = Spec::of_bundle(&request.bundle)?;
        let cgroup = Cgroup::of(&spec.linux.cgroups_path, &request.namespace, &request.id)?;
        let prepared = async {
            cgroup.create(&spec.linux.resources)?;
            let stdin = stdio::input_keeper(&request.stdio.stdin)?;
            match self.prepare(request, &spec, &cgroup, false).await {
                // Compiled on another machine, or before an upgrade of this one: compiled again, once.
                Err(LaunchError::Incompatible(_)) => self.prepare(request, &spec, &cgroup, true).await,
                prepared => prepared,
            }
            .map(|preparation| (preparation, stdin))
        };
        match prepared.await {
            Ok((mut preparation, stdin)) => {
                let control = preparation.control.take().filter(|_| spec.role() == Role::Guest);
                let outputs = std::mem::take(&mut preparation.outputs);
                let exit = preparation.exit.take().ok_or(LaunchError::Process("the process was taken".to_owned()))?;
                let held = Held { control, stdin, outputs };
                Ok(Launched { pid: preparation.pid, exit, cgroup, role: spec.role(), held })
            }
            Err(error) => {
                remove(&cgroup).await;
                Err(error)
            }
        }
    }

    async fn prepare(
        &self,
        request: &Request,
        spec: &Spec,
        cgroup: &Cgroup,
        recompile: bool,
    ) -> Result<Preparation, LaunchError> {
        let role = spec.role();
        let program = if role == Role::Sandbox { &self.installation.shim } else { &self.installation.engine };
        let setup = Setup {
            spec: spec.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            stdin: Some(&request.stdio.stdin).filter(|path| !path.is_empty()).map(PathBuf::from),
            program: program.clone(),
            cache: CACHE_DIR.into(),
        };
        if role == Role::Guest {
            self.cache.prepare()?;
        }
        let mut preparation = self.spawn(spec, &request.stdio)?;
        cgroup.add(preparation.pid)?;
        set_oom_score(preparation.pid, spec.process.oom_score_adj);
        preparation.tell(&setup).await?;
        if role == Role::Guest {
            preparation.expect(Answer::Rooted).await?;
            let entry = entry_point(&spec.process.args, spec.env("PATH"), &spec.process.cwd)?;
            let root = open_root(preparation.pid)?;
            let module = program::find(root, &entry)?;
            let artefact = self.cache.artefact(module.file, recompile).await?;
            preparation.tell(&Command::Load { artefact, function: entry.function }).await?;
        }
        preparation.expect(Answer::Ready).await?;
        Ok(preparation)
    }

    /// Starts `init` as a child in the container's PID namespace.
    fn spawn(&self, spec: &Spec, stdio: &StdioPaths) -> Result<Preparation, LaunchError> {
        let system = |step| move |error| LaunchError::System { step, error };
        let (stdout, stderr) = (stdio::output(&stdio.stdout)?, stdio::output(&stdio.stderr)?);
        let (control, theirs) = StdUnixStream::pair().map_err(system("creating the control socket"))?;
        control.set_nonblocking(true).map_err(system("creating the control socket"))?;
        let control = UnixStream::from_std(control).map_err(system("creating the control socket"))?;
        let mut command = Process::new("/proc/self/exe");
        command.arg("init").env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(stdout.writer).stderr(stderr.writer);
        let pid = in_pid_namespace(spec, || command.spawn()).map_err(system("starting the container's process"))?;
        let exit = Some(self.reaper.claim(pid));
        let outputs = [stdout.keeper, stderr.keeper].into_iter().flatten().collect();
        Ok(Preparation { pid, exit, control: Some(control), outputs })
    }
}

impl Preparation {
    async fn tell(&mut self, message: &impl Serialize) -> Result<(), LaunchError> {
        let bytes = encode(message).map_err(|error| LaunchError::System { step: "writing a message", error })?;
        match self.control.as_mut() {
            // An end without a word is noticed by whoever waits for the answer.
            Some(control) => drop(control.write_all(&bytes).await),
            None => return Err(LaunchError::Process("the control socket is closed".to_owned())),
        }
        Ok(())
    }

    async fn expect(&mut self, expected: Answer) -> Result<(), LaunchError> {
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
        let exit = match self.exit.take() {
            Some(exit) => exit.await.ok(),
            None => None,
        };
        match exit.map_or(255, |exit| exit.code) {
            code @ 137 => LaunchError::Died { code, hint: " (killed; is the container's memory limit too small?)" },
            code => LaunchError::Died { code, hint: "" },
        }
    }
}

/// Runs `spawn` so that the child is in the PID namespace that the specification asks for. The shim has one thread, which
/// stays in its own namespace: only new children are elsewhere (pid_namespaces(7)).
fn in_pid_namespace(spec: &Spec, spawn: impl FnOnce() -> io::Result<std::process::Child>) -> io::Result<Pid> {
    let namespace = spec.namespace("pid");
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

/// The container's root, as its process sees it.
fn open_root(pid: Pid) -> Result<OwnedFd, LaunchError> {
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| LaunchError::System { step: "looking into the container's root", error: errno.into() })
}

/// Not every node may lower the score (CAP_SYS_RESOURCE): the container runs without it.
fn set_oom_score(pid: Pid, score: Option<i32>) {
    if let Some(score) = score {
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    }
}

/// Removes the cgroup of a container that was not created; its process was killed a moment ago.
async fn remove(cgroup: &Cgroup) {
    for pause in [0, 1, 2, 5, 10, 20, 50, 100, 200] {
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        if cgroup.remove().is_ok() {
            return;
        }
    }
}
