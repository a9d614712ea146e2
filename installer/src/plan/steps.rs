//! The steps that lead from what is there to what should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::artifacts::{leads_into_artifact, runtimes_dir};
use crate::host::files::is_temporary;
use crate::ledger::State;
use crate::observe::{Observed, Standing};
use crate::step::{Step, is_kept, kept};
use crate::target::Target;

/// What is done before the daemon takes anything up.
pub(super) fn changes(observed: &Observed, config: Option<&String>, state: &State) -> Vec<Step> {
    let mut steps: Vec<Step> = observed
        .missing_dirs
        .iter()
        .filter(|dir| state.created_dirs.contains(dir))
        .cloned()
        .map(Step::MakeDir)
        .collect();
    for artifact in observed.artifacts.values() {
        let folder = artifact.folder(&observed.install_dir);
        if let Some(damage) = observed.damaged.get(&folder).cloned() {
            steps.push(Step::Repair { artifact: artifact.clone(), folder: folder.clone(), damage });
        } else if !observed.installed.contains(&(artifact.name.clone(), artifact.digest.clone())) {
            steps.push(Step::Install { artifact: artifact.clone(), folder: folder.clone() });
        }
        let (path, target) = (artifact.link(&observed.install_dir), folder.join(&artifact.shim));
        let previous = observed.links.get(&path).cloned().unwrap_or(Standing::Nothing);
        if previous != Standing::Link(target.clone()) {
            steps.push(Step::Link { path, target, previous });
        }
    }
    for (path, target) in observed.own_names() {
        let previous = observed.links.get(&path).cloned().unwrap_or(Standing::Nothing);
        if previous != Standing::Link(target.clone()) {
            steps.push(Step::Link { path, target, previous });
        }
    }
    if observed.config.as_ref() != config {
        steps.push(Step::Configure {
            path: observed.platform.layout.path.clone(),
            draft: observed.config_draft.clone(),
            text: config.cloned(),
            seen: observed.config.clone(),
            previous: observed.config_before().clone(),
            attributes: observed.config_attributes,
        });
    }
    steps
}

/// Directories that will have been created by us and are still there afterwards.
pub(super) fn created_dirs(observed: &Observed, state: &State, cleanup: &[Step]) -> Vec<PathBuf> {
    let before = observed.state.created_dirs.iter().filter(|dir| observed.own_dirs.contains(dir));
    let mut dirs: Vec<PathBuf> = before.cloned().collect();
    let for_config = observed.platform.layout.path.parent().filter(|_| state.config.is_none());
    let new = observed.missing_dirs.iter().filter(|dir| !for_config.is_some_and(|parent| parent.starts_with(dir)));
    dirs.extend(new.cloned());
    dirs.sort();
    dirs.dedup();
    dirs.retain(|dir| !cleanup.contains(&Step::RemoveDir(dir.clone())));
    dirs
}

/// What nothing names any more: links and artifacts that are not of the target, unless a process runs them.
pub(super) fn cleanup(observed: &Observed, target: &Target) -> Vec<Step> {
    let dir = &observed.install_dir;
    let runtimes = runtimes_dir(dir);
    let wanted_folders: BTreeSet<PathBuf> = observed.artifacts.values().map(|artifact| artifact.folder(dir)).collect();
    let mut steps = unlinks(observed);
    steps.extend(observed.config_leftover.iter().chain(&observed.ledger_leftover).cloned().map(Step::Unlink));
    steps.extend(observed.fetch_leftovers.iter().cloned().map(Step::Discard));
    let mut kept_folders = wanted_folders.clone();
    for (name, digest) in &observed.installed {
        let folder = runtimes.join(name).join(digest);
        if in_use(observed, &folder) {
            kept_folders.insert(folder);
        } else if is_leftover(&folder) {
            steps.push(Step::Discard(folder));
        } else if !wanted_folders.contains(&folder) {
            steps.push(Step::Uninstall(folder));
        }
    }
    if target.runtimes.is_empty() && kept_folders.is_empty() {
        steps.extend(observed.cache.clone().map(Step::Discard));
        steps.extend(observed.own_dirs.iter().rev().cloned().map(Step::RemoveDir));
    } else {
        let of_a_runtime = observed.own_dirs.iter().filter(|dir| dir.parent() == Some(&runtimes));
        let empty = of_a_runtime.filter(|dir| !kept_folders.iter().any(|kept| kept.starts_with(dir)));
        steps.extend(empty.cloned().map(Step::RemoveDir));
    }
    steps
}

fn unlinks(observed: &Observed) -> Vec<Step> {
    let dir = &observed.install_dir;
    let runtimes = runtimes_dir(dir);
    let mut wanted: BTreeSet<PathBuf> = observed.artifacts.values().map(|artifact| artifact.link(dir)).collect();
    wanted.extend(observed.own_names().into_iter().map(|(link, _)| link));
    let (mut steps, mut put_back) = (Vec::new(), Vec::new());
    for (path, standing) in &observed.links {
        let ours = matches!(standing, Standing::Link(to)
            if leads_into_artifact(&runtimes, to) && !in_use(observed, to.parent().unwrap_or(to)));
        let named = matches!(standing, Standing::Link(_)) && observed.state.named.contains(path);
        if *standing == Standing::File && wanted.contains(path) {
            steps.push(Step::Unlink(kept(path)));
        } else if (ours || named) && !wanted.contains(path) && replaced_in_vain(observed, path) {
            put_back.push(path.clone());
        } else if (ours || named) && !wanted.contains(path) || is_leftover(path) {
            steps.push(Step::Unlink(path.clone()));
        }
    }
    steps.retain(|step| !put_back.iter().any(|path| *step == Step::Unlink(kept(path))));
    steps.extend(put_back.into_iter().map(Step::PutBack));
    steps
}

fn in_use(observed: &Observed, folder: &Path) -> bool {
    observed.processes.iter().any(|process| process.program.starts_with(folder))
}

/// Whether a run that was cut off put its link in the place of somebody else's file.
fn replaced_in_vain(observed: &Observed, link: &Path) -> bool {
    let known = observed.state.artifacts.iter().any(|artifact| artifact.link(&observed.install_dir) == link);
    !known && observed.links.contains_key(&kept(link))
}

/// A name that only an interrupted run leaves.
fn is_leftover(path: &Path) -> bool {
    is_temporary(path) || is_kept(path)
}
