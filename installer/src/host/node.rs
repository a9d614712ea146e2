//! The real node: systemd, containerd, `/proc`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::system::{CriStatus, Process, System, SystemError, Unit};
use super::{cri, processes};

/// Where a node's programs are; an image `FROM scratch` brings no `PATH` that would do.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(30);

/// How long systemd may take to restart a unit: a daemon that hangs is killed after 90 s (systemd's default)
/// and may take as long to start.
const RESTART: Duration = Duration::from_secs(200);

/// More than any command here prints: a whole configuration of containerd is some 10 KiB.
const PRINTED_MAX: u64 = 16 << 20;

/// The user and group that own nothing, on every distribution.
const NOBODY: u32 = 65534;

/// The node that this process runs on.
#[derive(Debug, Default)]
pub struct Node {
    restarted: Cell<Option<SystemTime>>,
}

impl System for Node {
    fn unit(&self, name: &str) -> Result<Unit, SystemError> {
        let shown = run("systemctl", &["show", name, "--property=LoadState,ActiveState,MainPID"], LOOK)?;
        let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
        let property = |name: &str| properties.get(name).copied().unwrap_or_default();
        let mut unit = Unit { loaded: property("LoadState") == "loaded", ..Unit::default() };
        if let Some(pid) = property("MainPID").parse::<u32>().ok().filter(|pid| *pid != 0) {
            unit.active = property("ActiveState") == "active";
            (unit.program, unit.arguments) = process(pid);
        }
        Ok(unit)
    }

    fn daemon_version(&self, daemon: &Path) -> Result<String, SystemError> {
        // containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3
        let line = run(&daemon.to_string_lossy(), &["--version"], LOOK)?;
        let version = line.split_whitespace().nth(2).unwrap_or_default();
        Ok(version.trim_start_matches('v').to_owned())
    }

    fn config_dump(&self, daemon: &Path, file: Option<&Path>) -> Result<String, SystemError> {
        let daemon = daemon.to_string_lossy();
        match file {
            Some(file) => run(&daemon, &["--config", &file.to_string_lossy(), "config", "dump"], LOOK),
            None => run(&daemon, &["config", "default"], LOOK),
        }
    }

    fn restart(&self, unit: &str) -> Result<(), SystemError> {
        self.restarted.set(Some(SystemTime::now()));
        // Without this, a unit that failed a few times in a row is refused its next start.
        run("systemctl", &["reset-failed", unit], LOOK).ok();
        run("systemctl", &["restart", unit], RESTART).map(drop)
    }

    fn last_words(&self, unit: &str) -> String {
        let since = self.restarted.get().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let since = format!("--since=@{}", since.map_or(0, |since| since.as_secs()));
        let arguments = ["--unit", unit, &since, "--lines", "15", "--no-pager", "--output", "cat"];
        run("journalctl", &arguments, LOOK).unwrap_or_else(|error| error.to_string())
    }

    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError> {
        cri::status(socket).map_err(|reason| SystemError::Cri { socket: socket.to_owned(), reason })
    }

    fn try_out(&self, program: &Path, argument: &str, limit: Duration) -> Result<(), SystemError> {
        let mut command = Command::new(program);
        command.arg(argument).env_clear();
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        finish(command, limit).map(drop)
    }

    fn processes_below(&self, folder: &Path) -> Vec<Process> {
        processes::below(folder)
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

fn process(pid: u32) -> (PathBuf, Vec<String>) {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let program = program.to_string_lossy();
    let program = PathBuf::from(program.strip_suffix(" (deleted)").unwrap_or(&program));
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    (program, arguments.filter(|word| !word.is_empty()).collect())
}

/// Runs a command of the node to its end and returns what it printed.
fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, SystemError> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).env("LC_ALL", "C");
    finish(command, limit)
}

/// Runs a command to its end and returns what it printed. One that takes too long ends with all that it started.
fn finish(mut command: Command, limit: Duration) -> Result<String, SystemError> {
    let words_of = [command.get_program()].into_iter().chain(command.get_args());
    let line = words_of.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let not_started = |error: std::io::Error| SystemError::Start { command: line.clone(), reason: error.to_string() };
    let failed = |words: String| SystemError::Command { command: line.clone(), words };
    let mut child = command
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(not_started)? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                // It may have ended just now: then there is nothing to kill.
                end_group(&child);
                child.wait().ok();
                return Err(failed(format!("no end within {} s", limit.as_secs())));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let [output, errors] =
        [output, errors].map(|reader| reader.and_then(|thread| thread.join().ok()).unwrap_or_default());
    if status.success() { Ok(output) } else { Err(failed(words(&errors, &status.to_string()))) }
}

fn end_group(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    }
}

/// Keeps a beginning of what is printed, and lets the rest pass.
fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        (&mut from).take(PRINTED_MAX).read_to_end(&mut bytes).ok();
        std::io::copy(&mut from, &mut std::io::sink()).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a command complained with, without what it only logged (Go programs write `time="…" level=…`).
fn words(errors: &str, status: &str) -> String {
    let lines: Vec<&str> =
        errors.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("time=")).collect();
    if lines.is_empty() { status.to_owned() } else { lines.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_quoted_with_its_words_but_not_its_log() {
        let error = run("sh", &["-c", "echo time=warning >&2; echo broken >&2; exit 3"], LOOK).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo time=warning >&2; echo broken >&2; exit 3` failed: broken");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = run("sleep", &["60"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "`sleep 60` failed: no end within 0 s");
    }

    /// A script in a folder that everybody can enter.
    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("shim");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    fn tried(text: &str, limit: Duration) -> Result<(), String> {
        let (_folder, script) = script(text);
        let shown = script.display().to_string();
        Node::default().try_out(&script, "-v", limit).map_err(|error| error.to_string().replace(&shown, "shim"))
    }

    #[test]
    fn a_program_is_tried_out_as_nobody_with_nothing_to_read_and_nothing_in_its_environment() {
        let checks = "[ \"$1\" = -v ] && [ -z \"$HOME$LC_ALL\" ] && [ -z \"$(cat)\" ] && [ \"$PWD\" = / ] || exit 1";
        assert_eq!(tried(checks, LOOK), Ok(()));
        if rustix::process::geteuid().is_root() {
            assert_eq!(tried("[ \"$(id -u):$(id -g):$(id -G)\" = 65534:65534:65534 ]", LOOK), Ok(()));
        }
    }

    #[test]
    fn a_program_that_lacks_a_library_is_quoted() {
        let words = "echo 'shim: error while loading shared libraries: libx.so.1: cannot open shared object file' >&2; exit 127";
        let error = tried(words, LOOK).unwrap_err();
        assert_eq!(
            error,
            "`shim -v` failed: shim: error while loading shared libraries: libx.so.1: cannot open shared object file"
        );
    }

    #[test]
    fn a_program_that_hangs_ends_with_everything_it_started() {
        let error = tried("sleep 60 & sleep 60", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "`shim -v` failed: no end within 0 s");
    }

    #[test]
    fn a_program_that_never_stops_talking_is_listened_to_only_so_long() {
        let error = tried("while :; do echo yes; done", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error, "`shim -v` failed: no end within 0 s");
    }

    #[test]
    fn a_missing_command_is_named() {
        let error = run("no-such-command", &[], LOOK).unwrap_err();
        assert!(error.to_string().starts_with("cannot run `no-such-command`: No such file"), "{error}");
    }
}
