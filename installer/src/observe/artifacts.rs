//! The artifacts that a target needs: from the bundle, on the node already, or to be fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// The artifacts of a target.
#[derive(Default)]
pub(super) struct Found {
    /// By their names: as they are on the node already, or from the bundle, or to be fetched.
    pub(super) artifacts: BTreeMap<String, Artifact>,
    /// What is wrong with their folders on the node, in words.
    pub(super) damaged: BTreeMap<PathBuf, String>,
}

impl Found {
    fn add(&mut self, artifact: Artifact, damage: Option<String>, install_dir: &Path) {
        self.damaged.extend(damage.map(|damage| (artifact.folder(install_dir), damage)));
        self.artifacts.insert(artifact.name.clone(), artifact);
    }
}

/// Where a node has its artifacts, and what it knows of them.
pub(super) struct OnNode<'a> {
    /// Its files.
    pub(super) files: &'a Files,
    /// What it is at, according to the ledger.
    pub(super) state: &'a State,
    /// Whether no transaction was cut off.
    pub(super) settled: bool,
    /// Where binaries go.
    pub(super) install_dir: &'a Path,
}

impl OnNode<'_> {
    /// Finds what a target needs.
    pub(super) fn find(&self, bundles: Bundles, target: &Target) -> Result<Found, Stop> {
        let mut found = Found::default();
        for (name, bundled) in bundles.0 {
            let artifact = self.bundled(&name, bundled)?;
            let damage = artifact.damage(self.files, &artifact.folder(self.install_dir));
            found.add(artifact, damage, self.install_dir);
        }
        for wanted in &target.runtimes {
            if let WantedSource::Remote(remote) = &wanted.source {
                let (artifact, damage) = self.known_or_remote(wanted, remote);
                found.add(artifact, damage, self.install_dir);
            }
        }
        Ok(found)
    }

    /// One without a bundle is as the ledger knows it: whether its files are there still is looked at later. Of a run that
    /// was cut off they may never have been, and then there is no way on.
    fn bundled(&self, name: &str, bundled: Result<Artifact, ArtifactError>) -> Result<Artifact, Stop> {
        let known = self.state.artifacts.iter().find(|artifact| artifact.name == name);
        let there = |artifact: &&Artifact| self.files.metadata(&artifact.folder(self.install_dir)).is_some();
        match (bundled, known.filter(|artifact| self.settled || there(artifact))) {
            (Ok(artifact), _) => Ok(artifact),
            (Err(ArtifactError::Missing { .. }), Some(artifact)) => Ok(artifact.clone()),
            (Err(error), _) => Err(Stop::unchanged("read the bundle", Reason::BundleNotUsable, error)),
        }
    }

    /// What the node has already is not fetched again, unless it is damaged. Its folder tells, so that a lost ledger costs
    /// no download.
    fn known_or_remote(&self, wanted: &Wanted, remote: &Remote) -> (Artifact, Option<String>) {
        let expected = remote.expected(&wanted.runtime.name, wanted.runtime.kind);
        let folder = expected.folder(self.install_dir);
        if self.files.link_metadata(&folder).is_none() {
            return (expected, None);
        }
        let is_known = |known: &&Artifact| known.name == expected.name && known.digest == expected.digest;
        let there = match self.state.artifacts.iter().find(is_known) {
            Some(known) => Ok(known.clone()),
            None => expected.clone().found(self.files, &folder).map_err(|error| error.to_string()),
        };
        let sound = there.and_then(|there| there.damage(self.files, &folder).map_or(Ok(there), Err));
        sound.map_or_else(|damage| (expected, Some(damage)), |there| (there, None))
    }
}
