//! Something else in the place of what is needed: said before anything is changed, because a step that meets it halfway
//! could not be undone without touching what is somebody else's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inventory::needed_dirs;
use crate::artifacts::{Artifact, KWASM_0_2_DIRS, leads_into_artifact, runtimes_dir};
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::ledger::{self, State};
use crate::platform::{Form, Platform};
use crate::target::{Target, WantedSource};

/// Looks at the places of everything that a run may create.
pub(super) fn refuse(
    files: &Files,
    platform: &Platform,
    target: &Target,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
    named: &BTreeMap<PathBuf, PathBuf>,
) -> Result<(), Stop> {
    if target.runtimes.iter().all(|wanted| wanted.source == WantedSource::Preinstalled) {
        return Ok(());
    }
    let dirs = needed_dirs(platform, install_dir, artifacts);
    let needed = dirs.iter().map(PathBuf::as_path).chain(ledger::FOLDERS.map(Path::new));
    for path in needed.flat_map(Path::ancestors) {
        refuse_dangling(files, path)?;
        if files.metadata(path).is_some_and(|it| !it.is_dir()) {
            return Err(blocked(path, "is a file, and a directory of that name is needed"));
        }
    }
    let links = artifacts.values().map(|artifact| artifact.link(install_dir)).chain(named.keys().cloned());
    for path in links {
        if files.link_metadata(&path).is_some_and(|it| it.is_dir()) {
            return Err(blocked(&path, "is a directory, and a link of that name is needed"));
        }
    }
    let layout = &platform.layout;
    if !layout.form.is_written() {
        return Ok(());
    }
    refuse_dangling(files, &layout.path)?;
    // A drop-in of CRI-O is prepared beside its folder.
    let folder = layout.path.parent().filter(|_| layout.form == Form::CrioDropIn);
    let mounted = [Some(layout.path.as_path()), folder].into_iter().flatten();
    match mounted.into_iter().find(|path| platform.mounts.has_at(&files.follow(path))) {
        Some(path) => Err(blocked(path, "is a mount point: it cannot be replaced at once")
            .with_remedy("mount the folder above it instead, or register the handler by hand and use `preinstalled`")),
        None => Ok(()),
    }
}

/// Looks at the places of the links: only in its own directory KWasm 0.2 left binaries, which are replaced.
pub(super) fn refuse_taken(
    files: &Files,
    state: &State,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
) -> Result<(), Stop> {
    let runtimes = runtimes_dir(install_dir);
    let is_known = |link: &Path| state.artifacts.iter().any(|artifact| artifact.link(install_dir) == link);
    let is_ours = |link: &Path| files.link_target(link).is_some_and(|to| leads_into_artifact(&runtimes, &to));
    let mut links = artifacts.values().map(|artifact| artifact.link(install_dir));
    let taken = |link: &PathBuf| files.link_metadata(link).is_some() && !is_known(link) && !is_ours(link);
    match links.find(taken).filter(|_| !KWASM_0_2_DIRS.map(Path::new).contains(&install_dir)) {
        None => Ok(()),
        Some(link) => Err(blocked(&link, "is somebody else's, and a link of that name is needed")),
    }
}

fn refuse_dangling(files: &Files, path: &Path) -> Result<(), Stop> {
    let Some(target) = files.link_target(path).filter(|_| files.metadata(path).is_none()) else { return Ok(()) };
    let words = format!("is a link to {}, where there is nothing", target.display());
    Err(blocked(path, &words).with_remedy("take the link away, or create what it leads to"))
}

fn blocked(path: &Path, words: &str) -> Stop {
    Stop::unchanged("look for obstacles", Reason::PathOccupied, format!("{} {words}", path.display()))
}
