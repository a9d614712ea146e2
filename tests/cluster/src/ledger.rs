//! What a cluster made on the machine, written down before it is made, so that whoever comes after a
//! killed harness can undo all of it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::cgroup::Cgroup;
use crate::files::FileError;
use crate::process::ProcessId;
use crate::{mounts, network};

/// One thing made on the machine. Files in the cluster's own folder need no entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Made {
    /// A cgroup in every hierarchy, with every process that is ever started.
    Cgroup {
        /// Its path below the roots.
        path: PathBuf,
    },
    /// A network link; routes over it go with it.
    Link {
        /// Its name.
        name: String,
    },
    /// A mount, an overlay or a network namespace bound to a file.
    Mount {
        /// Where.
        point: PathBuf,
    },
    /// A process. Written down just after it started: until then its cgroup knows it.
    Process {
        /// What it is, for people.
        what: String,
        /// Which it is.
        #[serde(flatten)]
        id: ProcessId,
    },
}

/// The list, kept in a file to which lines are added.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    file: PathBuf,
}

impl Ledger {
    /// The ledger of the cluster in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { file: folder.join("ledger.jsonl") }
    }

    /// Writes something down. One write call: a kill leaves the whole line or none that counts.
    pub(crate) fn note(&self, made: &Made) -> Result<(), FileError> {
        let failed = |error| FileError::new("write", &self.file)(error);
        let mut line = serde_json::to_string(made).map_err(|error| failed(error.into()))?;
        line.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file).map_err(failed)?;
        file.write_all(line.as_bytes()).map_err(failed)
    }

    /// Everything written down. A last line cut short announces what was never made.
    pub(crate) fn entries(&self) -> Vec<Made> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Undoes everything, the latest first within each kind, and waits until it is gone.
    /// Returns what stayed; nothing that is gone already counts.
    pub(crate) fn undo(&self, folder: &Path) -> Vec<String> {
        let entries = self.entries();
        let mut left = Vec::new();
        for made in entries.iter().rev() {
            if let Made::Cgroup { path } = made {
                left.extend(Cgroup::at(path).remove());
            }
        }
        for made in entries.iter().rev() {
            if let Made::Process { what, id } = made
                && id.is_alive()
            {
                left.push(format!("process {} ({what})", id.pid));
            }
        }
        left.extend(mounts::remove_below(folder));
        for made in entries.iter().rev() {
            if let Made::Link { name } = made {
                left.extend(network::remove_link(name));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Made};

    #[test]
    fn what_was_written_down_is_read_back_without_the_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::of(folder.path());
        let link = Made::Link { name: "kwasm0".to_owned() };
        ledger.note(&link).unwrap();
        let mut text = std::fs::read_to_string(&ledger.file).unwrap();
        text.push_str("{\"kind\":\"mou");
        std::fs::write(&ledger.file, text).unwrap();
        assert_eq!(ledger.entries(), [link]);
    }
}
