//! Running the machine's own tools.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::session::Session;

/// How long a long-running tool may be silent before a line of progress is shown.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a long-running tool is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A tool that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("could not start {program}: {source}{}", hint(program))]
    Start {
        /// The program's name or path.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        said: String,
    },
    /// It was stopped because its session was interrupted.
    #[error("interrupted while running `{0}`")]
    Interrupted(String),
}

fn hint(program: &str) -> &'static str {
    match program {
        "systemd-nspawn" => " (Debian package systemd-container)",
        "debootstrap" => " (Debian package debootstrap)",
        "buildah" => " (Debian package buildah)",
        "ip" => " (Debian package iproute2)",
        "go" => " (Go from go.dev or Debian package golang-go)",
        "cc" => " (Debian package gcc)",
        _ => "",
    }
}

/// A command line as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

/// Starts building a command.
pub(crate) fn command<I, S>(program: impl AsRef<OsStr>, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Starts building a command that is killed when we are: it must not go on changing the machine
/// while somebody else cleans up after us.
pub(crate) fn bound_command<I, S>(program: impl AsRef<OsStr>, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut bound = command("setpriv", ["--pdeathsig", "KILL", "--"]);
    bound.arg(program).args(arguments);
    bound
}

/// Runs a short command and returns what it printed, whatever its exit status.
pub(crate) fn output(command: &mut Command) -> Result<Output, ToolError> {
    command.output().map_err(start_error(command))
}

/// Runs a short command that must succeed and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, ToolError> {
    let output = output(command)?;
    checked(command, output)
}

/// Runs a short command that must succeed, with text on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Result<String, ToolError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start_error(command))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends before reading all says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start_error(command))?;
    checked(command, output)
}

fn checked(command: &Command, output: Output) -> Result<String, ToolError> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = if errors.trim().is_empty() { said } else { errors.into_owned() };
    Err(ToolError::Failed { command: line(command), status: output.status, said: tail(&said, 20) })
}

/// Runs a command that takes long: its output goes to the file `log`, `what` and its last
/// line are shown every ten seconds, and an interruption of the session ends it.
pub(crate) fn run_long(command: &mut Command, what: &str, log: &Path, session: &Session) -> Result<(), ToolError> {
    let file = std::fs::File::create(log).map_err(start_error(command))?;
    let copy = file.try_clone().map_err(start_error(command))?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
    let mut child = command.spawn().map_err(start_error(command))?;
    let started = Instant::now();
    let mut shown = started;
    loop {
        if let Some(status) = child.try_wait().map_err(start_error(command))? {
            return if status.success() { Ok(()) } else { Err(failed(command, status, log)) };
        }
        if session.is_interrupted() {
            end_group(&mut child);
            return Err(ToolError::Interrupted(line(command)));
        }
        if shown.elapsed() >= HEARTBEAT {
            shown = Instant::now();
            session.say(format!("  {what}: {} s … {}", started.elapsed().as_secs(), last_line(log)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn end_group(child: &mut std::process::Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // The group may be gone already, which is what is wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn failed(command: &Command, status: ExitStatus, log: &Path) -> ToolError {
    let said = std::fs::read(log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    ToolError::Failed { command: line(command), status, said: tail(&said, 20) }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().chars().take(90).collect()
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim().lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

fn start_error(command: &Command) -> impl FnOnce(std::io::Error) -> ToolError + use<> {
    let program = command.get_program().to_string_lossy().into_owned();
    move |source| ToolError::Start { program, source }
}

/// Where a program of the machine is, if it is on the path (or in the folders for
/// administrators, which a plain user's path lacks).
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
