//! Running a command of the node to its end.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::system::SystemError;

/// Where a node's programs are; an image `FROM scratch` brings no `PATH` that would do.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a look may take.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// How long the rest of its output may take when a command has ended.
const AFTER_THE_END: Duration = Duration::from_secs(5);

/// More than any command here prints: a whole configuration of containerd is some 10 KiB.
const PRINTED_MAX: u64 = 16 << 20;

/// Runs a command of the node to its end and returns what it printed.
pub(super) fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, SystemError> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).env("LC_ALL", "C");
    finish(command, limit, PRINTED_MAX)
}

/// Runs a command to its end and returns what it printed, at most so many bytes. One that takes too long ends with all that it started.
pub(super) fn finish(mut command: Command, limit: Duration, printed_max: u64) -> Result<String, SystemError> {
    let words_of = [command.get_program()].into_iter().chain(command.get_args());
    let line = words_of.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let not_started = |error: io::Error| SystemError::Start { command: line.clone(), reason: error.to_string() };
    let failed = |words: String| SystemError::Command { command: line.clone(), words };
    let child = command
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let group = group(&child);
    // One that cannot be attended to is not left running.
    let attended = attend(child, printed_max).map_err(|error| {
        end_group(group);
        not_started(error)
    })?;
    let Ok(status) = attended.ended.recv_timeout(limit) else {
        end_group(group);
        attended.ended.recv().ok();
        return Err(failed(format!("no end within {} s", limit.as_secs())));
    };
    let status = status.map_err(not_started)?;
    // What it started in the background would keep its output open.
    end_group(group);
    let text = |told: &Receiver<String>| {
        told.recv_timeout(AFTER_THE_END)
            .map_err(|_| failed("it ended, but something that it started keeps its output open".to_owned()))
    };
    let (output, errors) = (text(&attended.output)?, text(&attended.errors)?);
    if status.success() { Ok(output) } else { Err(failed(words(&errors, &status.to_string()))) }
}

/// What a child's threads tell.
struct Attended {
    ended: Receiver<io::Result<ExitStatus>>,
    output: Receiver<String>,
    errors: Receiver<String>,
}

/// Listens to a child, so that it is never held up, and waits for its end.
fn attend(mut child: Child, printed_max: u64) -> io::Result<Attended> {
    let output = collect(child.stdout.take(), printed_max)?;
    let errors = collect(child.stderr.take(), printed_max)?;
    Ok(Attended { ended: in_a_thread(move || child.wait())?, output, errors })
}

/// What this comes to, once it has. Where a node has no room for another thread, that is an error and no panic.
fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Receiver<T>> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().spawn(move || tell.send(work()).ok())?;
    Ok(told)
}

/// Of a child that leads a group of its own.
fn group(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Ends what is left of a group. It may have ended just now: then there is nothing to kill.
fn end_group(group: Option<Pid>) {
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// Keeps a beginning of what is printed, and lets the rest pass.
fn collect(from: Option<impl Read + Send + 'static>, printed_max: u64) -> io::Result<Receiver<String>> {
    in_a_thread(move || {
        let Some(mut from) = from else { return String::new() };
        let mut bytes = Vec::new();
        (&mut from).take(printed_max).read_to_end(&mut bytes).ok();
        io::copy(&mut from, &mut io::sink()).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a command complained with, without what it only logged (Go programs write `time="…" level=…`).
fn words(errors: &str, status: &str) -> String {
    let lines: Vec<&str> =
        errors.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("time=")).collect();
    let text = if lines.is_empty() { status.to_owned() } else { lines.join(" ") };
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
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

    #[test]
    fn what_a_command_leaves_in_the_background_is_not_waited_for() {
        assert_eq!(run("sh", &["-c", "sleep 1000 & echo done"], LOOK).unwrap(), "done\n");
    }

    #[test]
    fn a_missing_command_is_named() {
        let error = run("no-such-command", &[], LOOK).unwrap_err();
        assert!(error.to_string().starts_with("cannot run `no-such-command`: No such file"), "{error}");
    }
}
