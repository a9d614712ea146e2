//! What became of an artifact's files after they were installed, and how they are put in place again.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::archive::EXECUTABLE;
use super::{Artifact, Place, file_digest};
use crate::host::Files;
use crate::host::files::{FileError, is_temporary, temporary};

impl Artifact {
    /// What is wrong with its folder on the node, in words; `None`: nothing, or it is still to be installed.
    #[must_use]
    pub fn damage(&self, files: &Files, folder: &Path) -> Option<String> {
        match files.link_metadata(folder) {
            None => return (self.source == Place::OnNode).then(|| "it is gone".to_owned()),
            Some(it) if !it.is_dir() => return Some("it is no directory".to_owned()),
            Some(_) => {}
        }
        let wrong = |name: &String| Some(format!("`{name}` {}", self.file_damage(files, &folder.join(name), name)?));
        // Where it cannot be repaired, a draft beside sound files is no reason to stop: it goes with the folder.
        let drafts = || if self.source == Place::OnNode { Vec::new() } else { drafts(files, folder) };
        let draft = || drafts().first().map(|draft| format!("{} is left of a repair", draft.display()));
        self.files.iter().find_map(wrong).or_else(draft)
    }

    fn file_damage(&self, files: &Files, path: &Path, name: &str) -> Option<String> {
        let Some(file) = files.link_metadata(path) else { return Some("is missing".to_owned()) };
        if !file.is_file() {
            return Some("is no regular file".to_owned());
        }
        if file.mode() & EXECUTABLE == 0 {
            return Some("is not executable".to_owned());
        }
        match self.size(name) {
            Some(size) if size != file.len() => return Some(format!("has {} bytes instead of {size}", file.len())),
            None if file.len() == 0 => return Some("is empty".to_owned()),
            _ if name != self.shim || self.sha256.is_empty() => return None,
            _ => {}
        }
        match file_digest(&files.locate(path)) {
            Ok(found) if found == self.sha256 => None,
            Ok(found) => Some(format!("has the SHA-256 {found} instead of {}", self.sha256)),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }

    /// The size that a file should have, where its source is at hand.
    fn size(&self, name: &str) -> Option<u64> {
        let Place::Folder(from) = &self.source else { return None };
        std::fs::metadata(from.join(name)).ok().map(|file| file.len())
    }

    /// Puts every file in place again, one after the other: no link leads to nothing meanwhile, what runs keeps the file
    /// that it has, and a run that is cut off leaves what the next one finds to be damaged still.
    ///
    /// # Errors
    /// If that fails.
    pub fn repair(&self, files: &Files, folder: &Path) -> Result<(), FileError> {
        if !files.link_metadata(folder).is_some_and(|it| it.is_dir()) {
            files.remove(folder)?;
            return self.install(files, folder);
        }
        for name in &self.files {
            let (place, draft) = (folder.join(name), temporary(&folder.join(name)));
            files.remove_tree(&draft)?;
            self.copy(files, name, &draft)?;
            if files.link_metadata(&place).is_some_and(|it| it.is_dir()) {
                files.remove_tree(&place)?;
            }
            files.rename(&draft, &place)?;
        }
        give_up(files, folder)
    }
}

/// Removes what a repair prepared and did not put in place.
///
/// # Errors
/// If that fails.
pub fn give_up(files: &Files, folder: &Path) -> Result<(), FileError> {
    files.remove_tree(&temporary(folder))?;
    drafts(files, folder).iter().try_for_each(|draft| files.remove_tree(draft))
}

fn drafts(files: &Files, folder: &Path) -> Vec<PathBuf> {
    let names = files.names(folder).into_iter().map(|name| folder.join(name));
    names.filter(|path| is_temporary(path)).collect()
}
