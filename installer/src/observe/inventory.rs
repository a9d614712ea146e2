//! What is on the node already, and what would have to be made first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Host, Standing, install_dir};
use crate::artifacts::{Artifact, bin_dir, is_digest, leads_into_artifact, program, runtimes_dir};
use crate::host::Files;
use crate::host::files::{is_temporary, temporary};
use crate::host::system::Process;
use crate::ledger::{self, State};
use crate::platform::{Form, Layout, Platform};
use crate::target::{Target, WantedSource};

/// The folders that are ours by their names: somebody else's `runtimes` may have others beside them.
pub(super) fn installed(files: &Files, install_dir: &Path) -> Vec<(String, String)> {
    let runtimes = runtimes_dir(install_dir);
    let names = files.names(&runtimes).into_iter();
    names
        .flat_map(|name| {
            let digests = files.names(&runtimes.join(&name));
            digests.into_iter().map(move |digest| (name.clone(), digest))
        })
        .filter(|(_, digest)| is_digest(digest))
        .collect()
}

/// Processes that run what is below the folder of runtimes, but for those of somebody else's folders there.
pub(super) fn processes(host: &Host, install_dir: &Path) -> Vec<Process> {
    let runtimes = runtimes_dir(install_dir);
    let mut processes = host.system.processes_below(&runtimes);
    processes.retain(|process| {
        // In a container's own view of the files the path may be another.
        !process.program.starts_with(&runtimes) || leads_into_artifact(&runtimes, &process.program)
    });
    processes
}

/// Where shims are linked to be found by their names, and what each link leads to.
pub(super) fn named(
    platform: &Platform,
    target: &Target,
    artifacts: &BTreeMap<String, Artifact>,
    install_dir: &Path,
) -> BTreeMap<PathBuf, PathBuf> {
    let Some(folder) = &platform.name_dir else { return BTreeMap::new() };
    let shims = target.runtimes.iter().filter(|wanted| !wanted.is_oci()).filter_map(|wanted| {
        match (&wanted.source, wanted.artifact()) {
            (WantedSource::Host(path), _) => Some(path.clone()),
            (_, Some(name)) => Some(artifacts.get(name)?.link(install_dir)),
            (_, None) => None,
        }
    });
    let is_shim =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("containerd-shim-"));
    shims
        .filter(|path| is_shim(path) && path.parent() != Some(folder))
        .filter_map(|path| Some((folder.join(path.file_name()?), path.clone())))
        .collect()
}

pub(super) fn links<'a>(
    files: &Files,
    install_dir: &Path,
    wanted: &BTreeMap<String, Artifact>,
    named: impl Iterator<Item = &'a PathBuf>,
) -> BTreeMap<PathBuf, Standing> {
    let bin = bin_dir(install_dir);
    let there = files.names(&bin).into_iter().map(|name| bin.join(name));
    let wanted = wanted.values().map(|artifact| artifact.link(install_dir));
    there
        .chain(wanted)
        .chain(named.flat_map(|link| [link.clone(), temporary(link)]))
        .filter(|path| files.link_metadata(path).is_some() || !is_temporary(path))
        .map(|path| {
            let standing = match (files.link_target(&path), files.link_metadata(&path)) {
                (Some(target), _) => Standing::Link(target),
                (None, Some(_)) => Standing::File,
                (None, None) => Standing::Nothing,
            };
            (path, standing)
        })
        .collect()
}

/// Directories that what is wanted goes to, the ledger's apart.
pub(super) fn needed_dirs(
    platform: &Platform,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
) -> Vec<PathBuf> {
    let mut needed: Vec<PathBuf> = Vec::new();
    if !artifacts.is_empty() {
        needed.push(bin_dir(install_dir));
        needed.extend(artifacts.keys().map(|name| runtimes_dir(install_dir).join(name)));
    }
    if platform.layout.form.is_written() {
        needed.extend(platform.layout.path.parent().map(Path::to_owned));
    }
    needed
}

pub(super) fn missing_dirs(
    files: &Files,
    platform: &Platform,
    install_dir: &Path,
    artifacts: &BTreeMap<String, Artifact>,
) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = needed_dirs(platform, install_dir, artifacts)
        .iter()
        .flat_map(|path| path.ancestors())
        // The ledger makes and removes its own.
        .filter(|path| files.metadata(path).is_none() && !ledger::FOLDERS.iter().any(|own| *path == Path::new(own)))
        .map(Path::to_owned)
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// CRI-O loads every file of its folder, a half-written one as well: there, a text is prepared beside the folder.
pub(super) fn config_draft(files: &Files, layout: &Layout) -> PathBuf {
    let beside = temporary(&files.follow(&layout.path));
    match (&layout.form, beside.parent(), beside.file_name()) {
        (Form::CrioDropIn, Some(folder), Some(name)) => folder.with_file_name(name),
        _ => beside,
    }
}

pub(super) fn config_leftover(files: &Files, layout: &Layout) -> Option<PathBuf> {
    let places = [config_draft(files, layout), temporary(&files.follow(&layout.path)), temporary(&layout.path)];
    places.into_iter().find(|path| files.link_metadata(path).is_some())
}

pub(super) fn own_dirs(
    files: &Files,
    platform: &Platform,
    install_dir: &Path,
    state: &State,
    installed: &[(String, String)],
) -> Vec<PathBuf> {
    let runtimes = runtimes_dir(install_dir);
    let own = install_dir::is_own(platform, install_dir);
    let names = if own { files.names(&runtimes) } else { installed.iter().map(|(name, _)| name.clone()).collect() };
    let names = names.into_iter().map(|name| runtimes.join(name));
    let mut dirs: Vec<PathBuf> = names.chain(state.created_dirs.iter().cloned()).collect();
    dirs.extend(own.then_some(runtimes));
    dirs.retain(|dir| files.metadata(dir).is_some_and(|dir| dir.is_dir()));
    dirs.sort();
    dirs.dedup();
    dirs
}

pub(super) fn missing_binaries(files: &Files, target: &Target) -> Vec<PathBuf> {
    on_host(target).filter(|path| files.metadata(path).is_none()).cloned().collect()
}

/// Why the binaries of `host` runtimes cannot be run, in words.
pub(super) fn refused_binaries(files: &Files, target: &Target) -> Vec<String> {
    let there = on_host(target).filter(|path| files.metadata(path).is_some());
    there.filter_map(|path| program::check(files, path).err()).map(|error| error.to_string()).collect()
}

fn on_host(target: &Target) -> impl Iterator<Item = &PathBuf> {
    target.runtimes.iter().filter_map(|wanted| match &wanted.source {
        WantedSource::Host(path) => Some(path),
        _ => None,
    })
}
