//! What is asked of a node besides its files. Tests answer in its place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::mounts::Mounts;
use crate::config::Entry;
use crate::verify::Dropped;

/// A systemd service as `systemctl show` sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Unit {
    /// Such as `containerd.service`.
    pub name: String,
    /// Whether it is started with the node.
    pub enabled: bool,
    /// Its main process, if that runs.
    pub main_pid: Option<u32>,
}

/// A process of the node itself, not of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Running {
    /// Its id on the node.
    pub pid: u32,
    /// The process that started it, or took it over.
    pub parent: u32,
    /// The program, as the kernel names it.
    pub program: PathBuf,
    /// Its command line, the program's name first.
    pub arguments: Vec<String>,
}

impl Running {
    /// What it calls itself, without a folder; the program's name if it does not say.
    #[must_use]
    pub fn name(&self) -> &str {
        // k3s writes `/usr/local/bin/k3s server` into its first argument.
        let said = self.arguments.first().and_then(|first| first.split_whitespace().next());
        let said = said.and_then(|said| said.rsplit('/').next()).filter(|name| !name.is_empty());
        said.or_else(|| self.program.file_name()?.to_str()).unwrap_or_default()
    }

    /// The value of a command line option, as the next word or after `=`.
    #[must_use]
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        let next = self.arguments.iter().skip(1).map(Some).chain([None]);
        self.arguments.iter().zip(next).find_map(|(word, next)| match word.split_once('=') {
            Some((name, value)) if names.contains(&name) => Some(value),
            None if names.contains(&word.as_str()) => next.map(String::as_str),
            _ => None,
        })
    }
}

/// What CRI says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CriStatus {
    /// The condition `RuntimeReady`.
    pub ready: bool,
    /// What stands behind it, if it is false.
    pub message: String,
    /// The condition `NetworkReady`: false on a node whose network for pods is not set up yet.
    pub network_ready: bool,
    /// The handlers that the running daemon serves, with their configuration as it holds it: keys are spelled
    /// as containerd's JSON spells them. `Null` where it only tells the name.
    pub handlers: BTreeMap<String, Json>,
}

impl CriStatus {
    /// Whether the running daemon still has something of a handler that was taken away; where it only tells the
    /// handler's name, this cannot be known.
    #[must_use]
    pub fn still_has(&self, dropped: &Dropped) -> bool {
        let Some(served) = self.handlers.get(&dropped.handler) else { return false };
        let options = served.get("options");
        let has = |name: &String| options.and_then(|options| options.get(name)).is_some_and(|value| !value.is_null());
        let annotations = served.get("PodAnnotations").and_then(Json::as_array);
        dropped.options.iter().any(has) || dropped.pod_annotations && annotations.is_some_and(|all| !all.is_empty())
    }

    /// Whether the running daemon serves a handler as an entry of its configuration wants it.
    #[must_use]
    pub fn serves(&self, entry: &Entry) -> bool {
        let Some(served) = self.handlers.get(&entry.handler) else { return false };
        if served.is_null() {
            return true;
        }
        // The spelling of containerd 1.6, 1.7 and 2.1; empty values come as null.
        let spelled = [("runtime_type", "runtimeType"), ("options", "options"), ("pod_annotations", "PodAnnotations")];
        let table = spelled.iter().filter_map(|(ours, theirs)| {
            let value = served.get(*theirs).filter(|value| !value.is_null())?;
            Some(((*ours).to_owned(), value.clone()))
        });
        entry.is_in(&table.collect())
    }
}

/// A pod whose sandbox is ready, as CRI knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The handler that it was started with; empty: the default one.
    pub handler: String,
}

/// A process whose program is a file below the folder that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id on the node.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// The file it runs.
    pub program: PathBuf,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Something that was asked for failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemError {
    /// A command ended with an error.
    #[error("`{command}` failed: {words}")]
    Command {
        /// The command line.
        command: String,
        /// Its last words.
        words: String,
    },
    /// A command could not be started.
    #[error("cannot run `{command}`: {reason}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        reason: String,
    },
    /// CRI gave no answer.
    #[error("CRI does not answer on {socket}: {reason}")]
    Cri {
        /// The socket.
        socket: String,
        /// Why.
        reason: String,
    },
}

/// A node's commands, services and processes.
pub trait System {
    /// The systemd services that there are of these names, which may hold a `*`.
    ///
    /// # Errors
    /// If systemd cannot be asked.
    fn units(&self, names: &[&str]) -> Result<Vec<Unit>, SystemError>;

    /// The node's first process and those that call themselves, or run a program, of one of these names.
    fn running(&self, names: &[&str]) -> Vec<Running>;

    /// What is mounted.
    fn mounts(&self) -> Mounts;

    /// The daemon's version, such as `1.7.24`.
    ///
    /// # Errors
    /// If it does not say.
    fn daemon_version(&self, daemon: &Path) -> Result<String, SystemError>;

    /// The effective configuration that the daemon would have with `file`, or without any.
    ///
    /// # Errors
    /// If the daemon refuses the file.
    fn config_dump(&self, daemon: &Path, file: Option<&Path>) -> Result<String, SystemError>;

    /// The configuration that CRI-O would have with a main file, or without any, and a folder of drop-ins, as far
    /// as it differs from [`Self::crio_defaults`].
    ///
    /// # Errors
    /// If CRI-O refuses it.
    fn crio_config(&self, daemon: &Path, main: Option<&Path>, folder: &Path) -> Result<String, SystemError>;

    /// The configuration that CRI-O has without any file.
    ///
    /// # Errors
    /// If CRI-O does not say.
    fn crio_defaults(&self, daemon: &Path) -> Result<String, SystemError>;

    /// Restarts a unit and waits until systemd calls it started.
    ///
    /// # Errors
    /// If it does not start.
    fn restart(&self, unit: &str) -> Result<(), SystemError>;

    /// Ends the node's first process in good order, for nodes that are containers which are started again.
    ///
    /// # Errors
    /// If it cannot be signalled.
    fn end_init(&self) -> Result<(), SystemError>;

    /// The unit's last lines in the journal.
    fn last_words(&self, unit: &str) -> String;

    /// Asks CRI on a unix socket.
    ///
    /// # Errors
    /// If there is no answer.
    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError>;

    /// Asks CRI on a unix socket for the pods that run.
    ///
    /// # Errors
    /// If there is no answer.
    fn pods(&self, socket: &str) -> Result<Vec<Pod>, SystemError>;

    /// Runs a program that was just installed to see whether it starts, in a way that cannot harm: as nobody, with
    /// nothing to read and an empty environment.
    ///
    /// # Errors
    /// If it cannot be started, ends with an error, or has not ended within `limit`.
    fn try_out(&self, program: &Path, argument: &str, limit: Duration) -> Result<(), SystemError>;

    /// The processes that run a file below `folder`.
    fn processes_below(&self, folder: &Path) -> Vec<Process>;

    /// Waits between two questions.
    fn pause(&self, time: Duration);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn running(program: &str, arguments: &[&str]) -> Running {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Running { pid: 7, parent: 1, program: program.into(), arguments }
    }

    #[rstest]
    #[case(&["containerd"], None)]
    #[case(&["containerd", "--config", "/a"], Some("/a"))]
    #[case(&["containerd", "-c=/a", "--log-level", "debug"], Some("/a"))]
    #[case(&["containerd", "--config"], None)]
    fn the_configuration_is_the_one_on_the_command_line(#[case] line: &[&str], #[case] expected: Option<&str>) {
        assert_eq!(running("/usr/bin/containerd", line).option(&["--config", "-c"]), expected);
    }

    #[rstest]
    #[case("/usr/local/bin/k3s", &["/usr/local/bin/k3s server"], "k3s")]
    #[case("/var/lib/rancher/k3s/data/0/bin/k3s", &["containerd", "-c", "/x"], "containerd")]
    #[case("/usr/bin/crio", &[], "crio")]
    fn a_process_is_called_what_it_calls_itself(#[case] program: &str, #[case] arguments: &[&str], #[case] name: &str) {
        assert_eq!(running(program, arguments).name(), name);
    }
}
