//! Where binaries go.

use std::path::{Path, PathBuf};

use super::{Settings, inventory};
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::ledger::State;
use crate::platform::Platform;
use crate::target::{Target, is_plain};

const STEP: &str = "choose a directory for binaries";

/// The directory that is asked for, or the one that has some already, or the first that takes programs.
pub(super) fn choose(
    files: &Files,
    settings: &Settings,
    platform: &Platform,
    state: &State,
    target: &Target,
) -> Result<PathBuf, Stop> {
    let brings = target.runtimes.iter().any(|wanted| wanted.artifact().is_some());
    let chosen = chosen(files, settings, state, brings)?;
    let candidates = chosen.map_or_else(|| platform.install_dirs.clone(), |dir| vec![dir]);
    let unfit = |dir: &PathBuf| platform.mounts.unfit_for_programs(&files.follow(dir));
    let found = candidates.iter().find(|dir| unfit(dir).is_none());
    if let Some(dir) = found.or_else(|| candidates.first().filter(|_| !brings)) {
        return Ok(dir.clone());
    }
    let told: Vec<String> =
        candidates.iter().filter_map(|dir| Some(format!("{} {}", dir.display(), unfit(dir)?))).collect();
    Err(Stop::unchanged(STEP, Reason::NoInstallDirectory, told.join(", ")))
}

/// One ledger knows one directory: with two, what is in the other would never go. Where nothing is brought, the one that
/// has something is meant, so that everything can be uninstalled with the option as well as without.
fn chosen(files: &Files, settings: &Settings, state: &State, brings: bool) -> Result<Option<PathBuf>, Stop> {
    let Some(asked) = &settings.install_dir else { return Ok(state.install_dir.clone()) };
    if !is_plain(asked) {
        let words = format!("--install-dir `{}` is not an absolute path without `..`", asked.display());
        return Err(Stop::unchanged(STEP, Reason::InvalidCommandLine, words));
    }
    let has_some = |dir: &&PathBuf| !state.artifacts.is_empty() || !inventory::installed(files, dir).is_empty();
    match state.install_dir.as_ref().filter(|there| *there != asked).filter(has_some) {
        None => Ok(Some(asked.components().collect())),
        Some(there) if !brings => Ok(Some(there.clone())),
        Some(there) => {
            let (asked, there) = (asked.display(), there.display());
            let words = format!("--install-dir is {asked}, but runtimes are installed in {there}");
            Err(Stop::unchanged(STEP, Reason::InvalidCommandLine, words)
                .with_remedy("uninstall all runtimes first, or leave --install-dir out"))
        }
    }
}

/// Whether all that is below a directory for binaries is ours by its name: no distribution has anything there.
pub(super) fn is_own(platform: &Platform, install_dir: &Path) -> bool {
    platform.install_dirs.iter().any(|own| own == install_dir)
}
