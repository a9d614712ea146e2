//! The steps of a plan: each does one thing, can be done twice, prints itself, and knows how it is undone.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::artifacts::{Artifact, Place, damage, uninstall};
use crate::host::Files;
use crate::host::files::{Attributes, FileError, temporary};
use crate::observe::Standing;

/// One change of the node's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create a directory that was not there.
    MakeDir(PathBuf),
    /// Copy an artifact, once it is fetched, to a folder of its own.
    Install {
        /// What.
        artifact: Artifact,
        /// Where.
        folder: PathBuf,
    },
    /// Put the files of an artifact in place again, once they are fetched.
    Repair {
        /// What.
        artifact: Artifact,
        /// Where.
        folder: PathBuf,
        /// What is wrong with it.
        damage: String,
    },
    /// Point a link to a binary.
    Link {
        /// The link.
        path: PathBuf,
        /// The binary.
        target: PathBuf,
        /// What was there.
        previous: Standing,
    },
    /// Write the configuration file, or remove it where there is to be none.
    Configure {
        /// The file.
        path: PathBuf,
        /// Where its text is prepared.
        draft: PathBuf,
        /// Its text; `None`: no file.
        text: Option<String>,
        /// Its text now; `None`: no file.
        seen: Option<String>,
        /// Its text before, which undoing leads back to; `None`: no file.
        previous: Option<String>,
        /// Mode and owner.
        attributes: Attributes,
    },
    /// Remove a file or link that nothing names any more.
    Unlink(PathBuf),
    /// Put back what a link replaced.
    PutBack(PathBuf),
    /// Remove the folder of an artifact.
    Uninstall(PathBuf),
    /// Remove another folder of ours with all that is in it.
    Discard(PathBuf),
    /// Remove a directory if it is empty.
    RemoveDir(PathBuf),
}

impl Step {
    /// Does it.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn apply(&self, files: &Files) -> Result<(), FileError> {
        match self {
            Self::MakeDir(path) => files.make_dir(path),
            Self::Install { artifact, folder } => artifact.install(files, folder),
            Self::Repair { artifact, folder, .. } => artifact.repair(files, folder),
            Self::Link { path, target, previous } => {
                if *previous == Standing::File {
                    files.hard_link(path, &kept(path))?;
                }
                files.link(path, target)
            }
            Self::Configure { path, draft, text, attributes, .. } => {
                configure(files, path, draft, text.as_deref(), *attributes)
            }
            Self::Unlink(path) => files.remove(path),
            Self::PutBack(path) => files.rename(&kept(path), path),
            Self::Uninstall(folder) => uninstall(files, folder),
            Self::Discard(path) => files.remove_tree(path),
            Self::RemoveDir(path) => files.remove_empty_dir(path).map(drop),
        }
    }

    /// Takes it back. What only removes leftovers is not taken back.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn undo(&self, files: &Files) -> Result<(), FileError> {
        match self {
            Self::MakeDir(path) => files.remove_empty_dir(path).map(drop),
            Self::Install { folder, .. } => uninstall(files, folder),
            // What was damaged is nothing to go back to.
            Self::Repair { folder, .. } => damage::give_up(files, folder),
            Self::Link { path, previous, .. } => {
                files.remove(&temporary(path))?;
                put_back(files, path, previous)
            }
            Self::Configure { path, draft, text, seen, previous, attributes } => {
                files.remove(draft)?;
                let now = files.read(path)?;
                let is = |text: &Option<String>| now.as_deref() == text.as_ref().map(String::as_bytes);
                // What failed before it changed anything would fail again.
                if is(previous) {
                    return Ok(());
                }
                if is(text) {
                    return configure(files, path, draft, previous.as_deref(), *attributes);
                }
                // It was not written: what a run before did is undone beneath this.
                if is(seen) {
                    return Ok(());
                }
                let source = io::Error::other("somebody else has changed it since");
                Err(FileError { what: "put back", path: path.clone(), source })
            }
            Self::Unlink(_) | Self::PutBack(_) | Self::Uninstall(_) | Self::Discard(_) | Self::RemoveDir(_) => Ok(()),
        }
    }
}

/// Under which name a file stays that a link replaces, until the link is verified.
#[must_use]
pub fn kept(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.kwasm-old"))
}

/// Whether a file stays under such a name.
#[must_use]
pub fn is_kept(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with('.') && name.ends_with(".kwasm-old")
}

fn put_back(files: &Files, path: &Path, previous: &Standing) -> Result<(), FileError> {
    let kept = kept(path);
    match previous {
        Standing::Nothing => files.remove(path),
        Standing::Link(target) if files.link_target(path).as_ref() == Some(target) => Ok(()),
        Standing::Link(target) => files.link(path, target),
        // Two names of one file: a rename would do nothing and leave both.
        Standing::File if files.link_target(path).is_none() => files.remove(&kept),
        Standing::File => files.rename(&kept, path),
    }
}

fn configure(
    files: &Files,
    path: &Path,
    draft: &Path,
    text: Option<&str>,
    attributes: Attributes,
) -> Result<(), FileError> {
    match text {
        Some(text) => files.replace_by(draft, path, text.as_bytes(), attributes),
        None => files.remove(path),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir(path) => write!(f, "create the directory {}", path.display()),
            Self::Install { artifact: Artifact { source: Place::Remote(remote), .. }, folder } => {
                write!(f, "fetch {remote} and install it in {}", folder.display())
            }
            Self::Install { artifact, folder } => {
                write!(f, "install {} in {}", artifact.files.join(", "), folder.display())
            }
            Self::Repair { artifact, folder, damage } => {
                let folder = folder.display();
                match &artifact.source {
                    Place::Folder(_) => write!(f, "repair {folder}: {damage}"),
                    Place::Remote(remote) => write!(f, "fetch {remote} and repair {folder}: {damage}"),
                    Place::OnNode => {
                        write!(f, "repair {folder} with an installer image that has {}: {damage}", artifact.name)
                    }
                }
            }
            Self::Link { path, target, .. } => write!(f, "link {} to {}", path.display(), target.display()),
            Self::Configure { path, text: Some(_), previous: Some(_), .. } => write!(f, "change {}", path.display()),
            Self::Configure { path, text: Some(_), .. } => write!(f, "create {}", path.display()),
            Self::Configure { path, text: None, .. } | Self::Unlink(path) => write!(f, "remove {}", path.display()),
            Self::PutBack(path) => write!(f, "put back {}", path.display()),
            Self::Uninstall(path) | Self::Discard(path) => write!(f, "remove the folder {}", path.display()),
            Self::RemoveDir(path) => write!(f, "remove the directory {} if it is empty", path.display()),
        }
    }
}
