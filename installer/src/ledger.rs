//! What this program did to the node, so that it can be taken back: one JSON file.
//!
//! `current` is what was last verified. `pending` is written before the first change of a transaction and
//! taken away after its verification; a run that finds it decides by the configuration file's content which of
//! the two the node is at (see [`Ledger::at`]).

mod pending;

use std::path::{Path, PathBuf};

use kwasm_api::runtime::Runtime;
use serde::{Deserialize, Serialize};

pub use pending::{Interrupted, Pending};

use crate::artifacts::{Artifact, text_digest};
use crate::config::Entry;
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::host::files::{Attributes, FileError, temporary};

/// The folder of the ledger.
pub const FOLDER: &str = "/var/lib/kwasm/installer";

/// The folders that are made for it, the outer one first.
pub const FOLDERS: [&str; 2] = ["/var/lib/kwasm", FOLDER];

/// The ledger.
pub const FILE: &str = "/var/lib/kwasm/installer/ledger.json";

/// The whole document. An unknown version is refused, unknown fields are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The document's version: 1.
    pub version: u32,
    /// What was last verified.
    pub current: State,
    /// What is being changed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// What is on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Where binaries went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_dir: Option<PathBuf>,
    /// The runtimes, as they were ordered.
    #[serde(default)]
    pub runtimes: Vec<Runtime>,
    /// The artifacts that they use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The configuration file that was edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigRecord>,
    /// Links on the daemon's `PATH`, by which shims are found without a configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<PathBuf>,
    /// Directories that were not there before, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created_dirs: Vec<PathBuf>,
}

/// An edited configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRecord {
    /// The file.
    pub path: PathBuf,
    /// Its text without us; absent if there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// SHA-256 of the text with us.
    pub written: String,
    /// What was put in, as it was written.
    pub block: String,
    /// The handlers that are ours.
    pub handlers: Vec<String>,
    /// Built-in handlers of containerd 1.x that had to be written out, because a table in the file replaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<Entry>,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what this program writes.
    #[error("{FILE}: {0}")]
    Content(serde_json::Error),
    /// A later version of this program wrote it.
    #[error("{FILE} has version {0}; this program understands version 1")]
    Version(u32),
}

impl LedgerError {
    /// Stops the run.
    #[must_use]
    pub fn stop(&self) -> Stop {
        let stop = Stop::unchanged("read the ledger", Reason::LedgerNotReadable, self);
        match self {
            Self::Version(_) => stop.with_remedy("use the installer version that wrote it, or a newer one"),
            Self::File(_) | Self::Content(_) => stop,
        }
    }
}

impl Ledger {
    /// A ledger without a transaction.
    #[must_use]
    pub const fn settled(current: State) -> Self {
        Self { version: 1, current, pending: None }
    }

    /// Reads the ledger; one that is not there is `None`.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn read(files: &Files) -> Result<Option<Self>, LedgerError> {
        let Some(content) = files.read(Path::new(FILE))? else { return Ok(None) };
        let ledger: Self = serde_json::from_slice(&content).map_err(LedgerError::Content)?;
        if ledger.version == 1 { Ok(Some(ledger)) } else { Err(LedgerError::Version(ledger.version)) }
    }

    /// Writes the ledger.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, files: &Files) -> Result<(), FileError> {
        for folder in FOLDERS {
            files.make_dir(Path::new(folder))?;
        }
        let unwritable =
            |error: serde_json::Error| FileError { what: "write", path: FILE.into(), source: error.into() };
        let mut content = serde_json::to_vec_pretty(self).map_err(unwritable)?;
        content.push(b'\n');
        files.replace(Path::new(FILE), &content, Attributes::PRIVATE)
    }

    /// Removes the ledger and its folders, if nothing else is in them.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(files: &Files) -> Result<(), FileError> {
        files.remove(Path::new(FILE))?;
        files.remove(&temporary(Path::new(FILE)))?;
        for folder in FOLDERS.iter().rev() {
            files.remove_empty_dir(Path::new(folder))?;
        }
        Ok(())
    }

    /// Whether the file says this already, with nothing half-written beside it.
    #[must_use]
    pub fn stands(&self, files: &Files) -> bool {
        Self::leftover(files).is_none() && Self::read(files).is_ok_and(|there| there.as_ref() == Some(self))
    }

    /// A file that a run left which was cut off while it wrote the ledger.
    #[must_use]
    pub fn leftover(files: &Files) -> Option<PathBuf> {
        Some(temporary(Path::new(FILE))).filter(|path| files.link_metadata(path).is_some())
    }

    /// Whether folders of the ledger are there, with nothing in them but what a cut-off run leaves.
    #[must_use]
    pub fn has_bare_folder(files: &Files) -> bool {
        let only = |folder: &str, name: Option<&str>| {
            let names = files.names(Path::new(folder));
            let ours = files.link_metadata(Path::new(folder)).is_some_and(|folder| folder.is_dir());
            ours && names.iter().all(|found| Some(found.as_str()) == name)
        };
        let [outer, inner] = FOLDERS;
        let unfinished = temporary(Path::new(FILE));
        let unfinished = unfinished.file_name().and_then(|name| name.to_str());
        only(outer, None) || only(inner, unfinished)
    }

    /// What was verified last, and what every run since that did not end was to lead to, the last one first.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        let pending = self.pending.iter();
        let begun = pending.flat_map(|pending| [Some(&pending.state), pending.from.as_ref().map(|from| &from.state)]);
        std::iter::once(&self.current).chain(begun.flatten())
    }

    /// The configuration file that was written, or was going to be.
    #[must_use]
    pub fn config_path(&self) -> Option<&Path> {
        self.states().find_map(|state| state.config.as_ref()).map(|record| record.path.as_path())
    }
}

impl State {
    /// Whether nothing of ours is on the node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runtimes.is_empty() && self.config.is_none() && self.named.is_empty()
    }
}

impl ConfigRecord {
    /// Whether a text is the one that was written last.
    #[must_use]
    pub fn wrote(&self, text: &str) -> bool {
        text_digest(text) == self.written
    }

    /// Whether what was put in stands in a text, which others may have changed around it.
    #[must_use]
    pub fn stands_in(&self, text: &str) -> bool {
        self.wrote(text) || !self.block.is_empty() && text.contains(&self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Ledger {
        let state = State { created_dirs: vec!["/opt/kwasm".into()], ..State::default() };
        let new = State { runtimes: Vec::new(), config: None, install_dir: Some("/new".into()), ..state.clone() };
        let pending = Pending { state: new, previous: Some("old".into()), ..Pending::default() };
        Ledger { version: 1, current: state, pending: Some(pending) }
    }

    #[test]
    fn a_ledger_comes_back_from_its_file_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var/lib")).unwrap();
        let files = Files::below(root.path());
        pending().write(&files).unwrap();
        assert_eq!(Ledger::read(&files).unwrap(), Some(pending()));
        Ledger::remove(&files).unwrap();
        assert_eq!(Ledger::read(&files).unwrap(), None);
        assert_eq!(files.names(Path::new("/var/lib")), Vec::<String>::new());
    }

    #[test]
    fn a_later_version_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(&FOLDER[1..])).unwrap();
        std::fs::write(root.path().join(&FILE[1..]), r#"{"version": 2, "current": {}}"#).unwrap();
        let error = Ledger::read(&Files::below(root.path())).unwrap_err();
        assert_eq!(error.to_string(), format!("{FILE} has version 2; this program understands version 1"));
    }
}
