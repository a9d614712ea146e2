//! The first stage of a container's process: from the shim's child to the engine (or the pod's pause) in its namespaces and root.
//!
//! It is a program of its own (`containerd-shim-wasmtime-v1 init`) and not a fork of the shim, so that nothing of it
//! needs `unsafe` and nothing of the shim's memory gets into a container. The shim has put it into its cgroup and, as the first
//! process, into its PID namespace. The road: [`namespaces`], [`root`] with [`mounts`], the shim's word which module to load,
//! [`credentials`], `exec`.

mod credentials;
mod devices;
mod mount_options;
mod mounts;
mod namespaces;
mod pause;
mod root;
mod target;

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kwasm_shim_protocol::control::{Answer, Command, receive, send};
use kwasm_shim_protocol::engine::{EXIT_ENGINE, EngineArgs};
use nix::fcntl::AtFlags;
use nix::unistd::{dup2_stdin, execveat};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::{Deserialize, Serialize};

pub(crate) use pause::pause;

use crate::spec::{Mount, Role, Spec};

/// All that a container's process must know; the shim's first message to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The container's specification.
    pub(crate) spec: Spec,
    /// The bundle's folder.
    pub(crate) bundle: PathBuf,
    /// What containerd wants mounted as the root, in this order; none means that it is there already.
    pub(crate) rootfs: Vec<Mount>,
    /// The FIFO of the standard input; absent means none.
    pub(crate) stdin: Option<PathBuf>,
    /// The program to become.
    pub(crate) program: PathBuf,
    /// The store of compiled modules.
    pub(crate) cache: PathBuf,
}

/// A step of the preparation that failed, for `kubectl describe pod`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// A system call failed.
    #[error("{step}: {error}")]
    Step { step: String, error: io::Error },
    /// The specification asks for something that does not exist here.
    #[error("{0}")]
    Unsupported(String),
    /// The shim is gone or out of step.
    #[error("{0}")]
    Control(String),
}

/// Names the step that a system call's error belongs to.
fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> InitError {
    move |error| InitError::Step { step: step.into(), error: error.into() }
}

/// Runs the stage; its standard input is the control socket. Returns only if it failed.
pub(crate) fn init() -> ExitCode {
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return ExitCode::from(EXIT_ENGINE),
    };
    let Err(error) = become_program(&control);
    let _ = send(&control, &Answer::Failed { message: error.to_string() });
    ExitCode::from(EXIT_ENGINE)
}

fn become_program(control: &UnixStream) -> Result<Infallible, InitError> {
    let setup: Setup = receive(control).map_err(|error| InitError::Control(error.to_string()))?;
    // All that lies outside of the container's root is opened before it is left.
    let program = open(&setup.program, OFlags::PATH)?;
    // As a mount without a parent: a link of an image into /proc/self/fd finds no way from it to the host.
    let alone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cache = open_tree(CWD, &setup.cache, alone).map_err(step(format!("opening {}", setup.cache.display())));
    let stdin = open(setup.stdin.as_deref().unwrap_or(Path::new("/dev/null")), OFlags::RDONLY)?;
    dup2_stdin(&stdin).map_err(step("setting the standard input"))?;
    namespaces::enter(&setup.spec)?;
    root::enter(&setup)?;
    match setup.spec.role() {
        Role::Sandbox => become_pause(control, &setup, &program),
        Role::Guest => become_engine(control, &setup, &program, &cache?),
    }
}

fn become_pause(control: &UnixStream, setup: &Setup, program: &OwnedFd) -> Result<Infallible, InitError> {
    credentials::take(&setup.spec.process)?;
    tell(control, &Answer::Ready)?;
    exec(program, &["containerd-shim-wasmtime-v1".to_owned(), "pause".to_owned()], &[])
}

fn become_engine(
    control: &UnixStream,
    setup: &Setup,
    program: &OwnedFd,
    cache: &OwnedFd,
) -> Result<Infallible, InitError> {
    tell(control, &Answer::Rooted)?;
    let (artefact, function) = match receive(control) {
        Ok(Command::Load { artefact, function }) => (artefact, function),
        other => return Err(InitError::Control(format!("the shim said {other:?} instead of what to load"))),
    };
    let artefact = openat(cache, &artefact, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map_err(step("opening the compiled module"))?;
    credentials::take(&setup.spec.process)?;
    for fd in [control.as_fd(), artefact.as_fd()] {
        fcntl_setfd(fd, FdFlags::empty()).map_err(step("handing descriptors to the engine"))?;
    }
    let guest = setup.spec.process.args.clone();
    let args = EngineArgs { control: control.as_raw_fd(), artefact: artefact.as_raw_fd(), function, guest };
    exec(program, &args.to_words(), &environment(&setup.spec))
}

/// The container's environment, with the working folder for the languages that ask it there (Go's `os.Getwd`).
fn environment(spec: &Spec) -> Vec<String> {
    let mut environment = spec.process.env.clone();
    if spec.env("PWD").is_none() && spec.process.cwd.starts_with('/') {
        environment.push(format!("PWD={}", spec.process.cwd));
    }
    environment
}

fn tell(control: &UnixStream, answer: &Answer) -> Result<(), InitError> {
    send(control, answer).map_err(|error| InitError::Control(format!("telling the shim: {error}")))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, InitError> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(step(format!("opening {}", path.display())))
}

fn exec(program: &OwnedFd, words: &[String], environment: &[String]) -> Result<Infallible, InitError> {
    let c_strings =
        |strings: &[String]| strings.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
    let (words, environment) = (c_strings(words), c_strings(environment));
    let nul = |_| InitError::Unsupported("a zero byte in the container's command or environment".to_owned());
    execveat(program, c"", &words.map_err(nul)?, &environment.map_err(nul)?, AtFlags::AT_EMPTY_PATH)
        .map_err(step("starting the engine"))
}

/// The content of a small file of the kernel's, set.
fn write_kernel_file(path: &str, value: &str) -> io::Result<()> {
    io::Write::write_all(&mut File::options().write(true).open(path)?, value.as_bytes())
}
