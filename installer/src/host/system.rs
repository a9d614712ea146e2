//! What is asked of a node besides its files. Tests answer in its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use crate::config::Entry;

/// A systemd unit as `systemctl show` sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether there is such a unit.
    pub loaded: bool,
    /// Whether its main process runs.
    pub active: bool,
    /// The program that runs it, as the kernel names it.
    pub program: PathBuf,
    /// Its command line, the program's name first.
    pub arguments: Vec<String>,
}

/// What CRI says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CriStatus {
    /// The condition `RuntimeReady`.
    pub ready: bool,
    /// What stands behind it, if it is false.
    pub message: String,
    /// The handlers that the running daemon serves, with their configuration as it holds it: keys are spelled
    /// as containerd's JSON spells them. `Null` where it only tells the name.
    pub handlers: BTreeMap<String, Json>,
}

impl CriStatus {
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
    /// A systemd unit.
    ///
    /// # Errors
    /// If systemd cannot be asked.
    fn unit(&self, name: &str) -> Result<Unit, SystemError>;

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

    /// Restarts a unit and waits until systemd calls it started.
    ///
    /// # Errors
    /// If it does not start.
    fn restart(&self, unit: &str) -> Result<(), SystemError>;

    /// The unit's last lines in the journal.
    fn last_words(&self, unit: &str) -> String;

    /// Asks CRI on a unix socket.
    ///
    /// # Errors
    /// If there is no answer.
    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError>;

    /// Runs a program that was just fetched to see whether it starts, in a way that cannot harm: as nobody, with
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
