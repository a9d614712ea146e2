//! Something else in the place of what is needed: said before anything is changed, because a step that meets it halfway
//! could not be undone without touching what is somebody else's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Standing;
use super::inventory::needed_dirs;
use crate::artifacts::Artifact;
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::ledger;
use crate::platform::{Form, Platform};

/// Looks at the places of everything that a run may create.
pub(super) fn refuse(
    files: &Files,
    platform: &Platform,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
    links: &BTreeMap<PathBuf, Standing>,
) -> Result<(), Stop> {
    let dirs = needed_dirs(platform, install_dir, artifacts);
    let needed = dirs.iter().map(PathBuf::as_path).chain(ledger::FOLDERS.map(Path::new));
    let no_dir = needed.flat_map(Path::ancestors).find(|path| files.metadata(path).is_some_and(|it| !it.is_dir()));
    if let Some(path) = no_dir {
        return Err(blocked(path, "is a file, and a directory of that name is needed"));
    }
    if let Some(path) = links.keys().find(|path| files.link_metadata(path).is_some_and(|it| it.is_dir())) {
        return Err(blocked(path, "is a directory, and a link of that name is needed"));
    }
    let config = &platform.layout.path;
    let is_edited = !matches!(platform.layout.form, Form::ByName | Form::Fixed(_));
    match files.link_target(config).filter(|_| is_edited && files.metadata(config).is_none()) {
        None => Ok(()),
        Some(target) => {
            let words = format!("is a link to {}, where there is nothing", target.display());
            Err(blocked(config, &words).with_remedy("take the link away, or create the file that it leads to"))
        }
    }
}

fn blocked(path: &Path, words: &str) -> Stop {
    Stop::unchanged("look for obstacles", Reason::PathOccupied, format!("{} {words}", path.display()))
}
