//! Running other programs: what failed is said with the last lines that the program wrote.

use std::io;
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

/// How many lines of a failed program's output are shown.
const TAIL: usize = 20;

/// Variables that `cargo run` sets for the program it starts. A cargo below it must not see them: build scripts
/// that watch them would run again each time.
const OF_CARGO_RUN: [&str; 6] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_MANIFEST_LINKS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_CRATE_NAME",
    "CARGO_BIN_NAME",
];

/// A program that did not do its work.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{line}`: {source}")]
    NotStarted {
        /// The command line.
        line: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{line}` failed ({status}){}", indent(tail))]
    Failed {
        /// The command line.
        line: String,
        /// Its exit code or signal.
        status: ExitStatus,
        /// The last lines it wrote, if they were not shown already.
        tail: String,
    },
}

/// A cargo of its own, as if it was started by hand in the top folder of the project.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(crate::paths::root());
    for (name, _) in std::env::vars_os() {
        let of_cargo = name.to_str().is_some_and(|name| OF_CARGO_RUN.contains(&name) || name.starts_with("CARGO_PKG_"));
        if of_cargo {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program whose output people should see.
///
/// # Errors
/// If it cannot be started or fails.
pub fn show(command: &mut Command) -> Result<(), CommandError> {
    let status = command.status().map_err(|source| CommandError::NotStarted { line: line(command), source })?;
    if status.success() {
        return Ok(());
    }
    Err(CommandError::Failed { line: line(command), status, tail: String::new() })
}

/// Runs a program quietly; gives what it wrote to standard output.
///
/// # Errors
/// If it cannot be started or fails; the last lines of what it wrote are in the error.
pub fn read(command: &mut Command) -> Result<String, CommandError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(|source| CommandError::NotStarted { line: line(command), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let tail = last_lines(&(text + &String::from_utf8_lossy(&output.stderr)));
    Err(CommandError::Failed { line: line(command), status: output.status, tail })
}

/// Runs a program whose standard output is for us and whose messages are for people.
///
/// # Errors
/// If it cannot be started or fails.
pub fn read_showing_messages(command: &mut Command) -> Result<String, CommandError> {
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    read(command)
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

fn indent(tail: &str) -> String {
    tail.lines().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_last_lines() {
        let error = read(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c 'echo one; echo two >&2; exit 3'"), "{error}");
        assert!(error.contains("exit status: 3") && error.ends_with("    one\n    two"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = read(&mut Command::new("/nonexistent/program")).unwrap_err().to_string();
        assert!(error.starts_with("cannot start `/nonexistent/program`"), "{error}");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(last_lines(&text).lines().next(), Some("80"));
    }
}
