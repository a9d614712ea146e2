//! Running a command of the node to its end.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::system::SystemError;

/// Where a node's programs are; an image `FROM scratch` brings no `PATH` that would do.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a look may take.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// Runs a command of the node to its end and returns what it printed.
pub(super) fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, SystemError> {
    let line = [&[program], arguments].concat().join(" ");
    let not_started = |error: std::io::Error| SystemError::Start { command: line.clone(), reason: error.to_string() };
    let failed = |words: String| SystemError::Command { command: line.clone(), words };
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
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
                child.kill().ok();
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

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
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

    #[test]
    fn a_missing_command_is_named() {
        let error = run("no-such-command", &[], LOOK).unwrap_err();
        assert!(error.to_string().starts_with("cannot run `no-such-command`: No such file"), "{error}");
    }
}
