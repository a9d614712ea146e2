//! From a Create request to a process that waits for its start.

mod hooks;
mod preparation;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kwasm_shim_protocol::control::{Answer, Command};
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cache::{CACHE_DIR, CREATION_TIME_MAX, Cache, CacheError};
use crate::cgroup::{Cgroup, CgroupError};
use crate::container::Held;
use crate::entry_point::{NoCommand, entry_point};
use crate::init::Setup;
use crate::installation::Installation;
use crate::log::Log;
use crate::program::{self, ProgramError};
use crate::reaper::{Exit, Reaper};
use crate::spec::{Mount, Role, Spec, SpecError};
use crate::stdio::{self, StdioError, StdioPaths};
use hooks::{HookError, Subject};
use preparation::Preparation;

/// How long a container may take to be created in all: kubelet's two minutes are not over, and what takes its time by itself
/// ([`CREATION_TIME_MAX`]) has said so.
const PATIENCE: Duration = CREATION_TIME_MAX.saturating_add(Duration::from_secs(5));

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
    /// A hook of the specification.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A terminal was asked for.
    #[error(
        "a WebAssembly container has no terminal in this runtime yet: set `tty: false` in the pod (kubectl, docker or ctr \
         run without -t)"
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
    /// The kernel keeps the process waiting, as for a volume whose server does not answer.
    #[error("the container's process was not prepared in {} s; does a volume of it hang?", PATIENCE.as_secs())]
    TooSlow,
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
    /// What went wrong without stopping anything.
    pub(crate) log: Arc<Log>,
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
        let start = Instant::now();
        let deadline = start + CREATION_TIME_MAX;
        let prepared = async {
            let stdin = stdio::input(&request.stdio.stdin, &request.namespace)?;
            match self.prepare(request, &spec, &cgroup, false, deadline).await {
                // Compiled on another machine, or before an upgrade of this one: compiled again, once.
                Err(LaunchError::Incompatible(_)) => self.prepare(request, &spec, &cgroup, true, deadline).await,
                prepared => prepared,
            }
            .map(|preparation| (preparation, stdin))
        };
        match timeout_at(start + PATIENCE, prepared).await.unwrap_or(Err(LaunchError::TooSlow)) {
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
        deadline: Instant,
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
        let mut preparation = Preparation::start(spec, &request.stdio, &self.reaper)?;
        if let Err(error) = cgroup.start_scope(preparation.pid, &spec.linux.resources, &self.reaper).await {
            self.log.warning(&request.id, format_args!("{error}; the container's cgroup is made without systemd"));
        }
        cgroup.create(preparation.pid, &spec.linux.resources)?;
        set_oom_score(preparation.pid, spec.process.oom_score_adj);
        preparation.tell(&setup).await?;
        if role == Role::Guest {
            preparation.expect(Answer::Rooted).await?;
            let entry = entry_point(&spec.process.args, spec.env("PATH"), &spec.process.cwd)?;
            let root = open_root(preparation.pid)?;
            let module = program::find(root, &entry)?;
            let artefact = self.cache.artefact(module.file, recompile, deadline).await?;
            preparation.tell(&Command::Load { artefact, function: entry.function }).await?;
        }
        preparation.expect(Answer::Ready).await?;
        let subject = Subject { id: &request.id, bundle: &request.bundle, pid: preparation.pid };
        hooks::run(spec, &subject, &self.reaper).await?;
        Ok(preparation)
    }
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
        sleep(Duration::from_millis(pause)).await;
        if cgroup.remove().is_ok() {
            return;
        }
    }
}
