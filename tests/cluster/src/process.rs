//! Starting programs that outlive us, each in its cgroup and network namespace.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cgroup::Cgroup;
use crate::files::FileError;
use crate::tool::ToolError;

/// Enters cgroups before anything else, so that no process is ever outside of them: the words
/// before `--` are cgroup folders, those after it the command.
const ENTER: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@""#;

/// A process, safe against reuse of its pid.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine's boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (state != 'Z').then_some(Self { pid, started })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// State and start time; the name, in parentheses, may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// A program to start.
pub(crate) struct Program<'a> {
    /// The command, as words.
    pub(crate) words: Vec<String>,
    /// Where it belongs.
    pub(crate) cgroup: &'a Cgroup,
    /// The network it sees.
    pub(crate) network: Option<&'a Path>,
    /// Where its output goes.
    pub(crate) log: &'a Path,
}

/// Starts a program in a session of its own. The thread that waits for it keeps it from staying a
/// zombie when it ends before we do.
pub(crate) fn start(program: &Program<'_>) -> Result<ProcessId, StartError> {
    let log = |source| StartError::File(FileError::new("open the log", program.log)(source));
    let file = OpenOptions::new().create(true).append(true).open(program.log).map_err(log)?;
    let copy = file.try_clone().map_err(log)?;
    let mut words = Vec::new();
    if let Some(network) = program.network {
        words.push("nsenter".to_owned());
        words.push(format!("--net={}", network.display()));
    }
    words.extend(program.words.iter().cloned());
    let mut command = entering(&program.cgroup.folders()?, &words, Some("setsid"));
    command.stdin(Stdio::null()).stdout(file).stderr(copy).current_dir("/");
    let name = program.words.first().cloned().unwrap_or_default();
    let mut child =
        command.spawn().map_err(|source| StartError::Tool(ToolError::Start { program: name.clone(), source }))?;
    let id = ProcessId::of(child.id());
    std::thread::spawn(move || child.wait());
    id.ok_or_else(|| StartError::EndedAtOnce { name, log: program.log.to_owned() })
}

/// A command that enters cgroups, then becomes `words`; `before` may be one more program that
/// starts it all.
pub(crate) fn entering(cgroups: &[PathBuf], words: &[String], before: Option<&str>) -> Command {
    let mut all: Vec<String> = before.map(str::to_owned).into_iter().collect();
    all.extend(["sh", "-c", ENTER, "sh"].map(str::to_owned));
    all.extend(cgroups.iter().map(|folder| folder.display().to_string()));
    all.push("--".to_owned());
    all.extend(words.iter().cloned());
    let mut words = all.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    command
}

/// A program that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its log or its cgroup.
    #[error(transparent)]
    File(#[from] FileError),
    /// The program itself.
    #[error(transparent)]
    Tool(ToolError),
    /// It was gone before it could be looked at.
    #[error("{name} ended at once; see {}", log.display())]
    EndedAtOnce {
        /// The program.
        name: String,
        /// Its output.
        log: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::{ProcessId, parse_stat};

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 4711)));
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { started: own.started + 1, ..own }.is_alive());
    }
}
