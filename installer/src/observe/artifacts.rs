//! The artifacts that a target needs: from the bundle, on the node already, or to be fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::artifacts::remote::Remote;
use crate::artifacts::{Artifact, ArtifactError};
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::ledger::State;
use crate::target::{Target, Wanted, WantedSource};

/// The bundles of a target, by their names.
pub(super) struct Bundles(BTreeMap<String, Result<Artifact, ArtifactError>>);

impl Bundles {
    /// Reads them, whole.
    pub(super) fn load(folder: &Path, target: &Target) -> Self {
        let names = target.runtimes.iter().filter_map(|wanted| match &wanted.source {
            WantedSource::Bundle(name) => Some(name),
            _ => None,
        });
        let names: BTreeSet<&String> = names.collect();
        Self(names.into_iter().map(|name| (name.clone(), Artifact::load(folder, name))).collect())
    }
}

/// The artifacts of the target: as they are on the node already, or from the bundle, or to be fetched.
pub(super) fn of(
    files: &Files,
    bundles: Bundles,
    target: &Target,
    state: &State,
    install_dir: &Path,
) -> Result<BTreeMap<String, Artifact>, Stop> {
    let mut artifacts = BTreeMap::new();
    for (name, bundled) in bundles.0 {
        let known = state.artifacts.iter().find(|artifact| artifact.name == name);
        let there = known.filter(|artifact| files.metadata(&artifact.folder(install_dir)).is_some());
        let artifact = match (bundled, there) {
            (Ok(artifact), _) => artifact,
            (Err(ArtifactError::Missing { .. }), Some(artifact)) => artifact.clone(),
            (Err(error), _) => return Err(Stop::unchanged("read the bundle", Reason::BundleNotUsable, error)),
        };
        artifacts.insert(name, artifact);
    }
    for wanted in &target.runtimes {
        if let WantedSource::Remote(remote) = &wanted.source {
            let artifact = known_or_remote(files, wanted, remote, state, install_dir)?;
            artifacts.insert(artifact.name.clone(), artifact);
        }
    }
    Ok(artifacts)
}

/// What the node has already is not fetched again. Its folder tells, so that a lost ledger costs no download.
fn known_or_remote(
    files: &Files,
    wanted: &Wanted,
    remote: &Remote,
    state: &State,
    install_dir: &Path,
) -> Result<Artifact, Stop> {
    let expected = remote.expected(&wanted.runtime.name, wanted.runtime.kind);
    let folder = expected.folder(install_dir);
    if files.metadata(&folder).is_none() {
        return Ok(expected);
    }
    let known = |known: &&Artifact| known.name == expected.name && known.digest == expected.digest;
    if let Some(known) = state.artifacts.iter().find(known) {
        return Ok(known.clone());
    }
    let step = format!("read {}", folder.display());
    expected.found(files, &folder).map_err(|error| Stop::unchanged(step, Reason::FileNotChanged, error))
}
