//! The runtimes that the installer's image carries: a folder for each.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Artifact, Place, file_digest, hex};
use crate::failure::listed;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No folder of that name.
    #[error("the installer's bundle has no runtime `{name}`; it has: {available}")]
    Missing {
        /// What was asked for.
        name: String,
        /// What is there.
        available: String,
    },
    /// Not exactly one file that containerd could start.
    #[error("the bundle's folder {} must hold exactly one file `containerd-shim-…`, it holds {found}", folder.display())]
    Shim {
        /// The folder.
        folder: PathBuf,
        /// How many.
        found: usize,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names of the bundle's folders.
#[must_use]
pub fn available(bundle: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(bundle).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

impl Artifact {
    /// Reads a folder of the bundle.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or holds no shim.
    pub fn load(bundle: &Path, name: &str) -> Result<Self, ArtifactError> {
        let source = bundle.join(name);
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| ArtifactError::Read { path, source }
        };
        let Ok(entries) = std::fs::read_dir(&source) else {
            let available = listed(&available(bundle));
            return Err(ArtifactError::Missing { name: name.to_owned(), available });
        };
        let mut files: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        files.sort();
        let shims: Vec<&String> = files.iter().filter(|name| name.starts_with("containerd-shim-")).collect();
        let [shim] = shims[..] else {
            return Err(ArtifactError::Shim { folder: source, found: shims.len() });
        };
        let mut all = Sha256::new();
        let mut sha256 = String::new();
        for file in &files {
            let path = source.join(file);
            let digest = file_digest(&path).map_err(unreadable(&path))?;
            all.update(format!("{file}\0{digest}\n"));
            if file == shim {
                sha256 = digest;
            }
        }
        let digest = hex(&all.finalize())[..16].to_owned();
        Ok(Self { name: name.to_owned(), digest, shim: shim.clone(), sha256, files, source: Place::Folder(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &str)]) -> tempfile::TempDir {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("wasmtime")).unwrap();
        for (name, content) in files {
            std::fs::write(bundle.path().join("wasmtime").join(name), content).unwrap();
        }
        bundle
    }

    #[test]
    fn any_file_of_the_folder_changes_the_digest() {
        let one = bundle(&[("containerd-shim-wasmtime-v1", "a"), ("wasmtime-engine", "b")]);
        let two = bundle(&[("containerd-shim-wasmtime-v1", "a"), ("wasmtime-engine", "c")]);
        let [one, two] = [one, two].map(|bundle| Artifact::load(bundle.path(), "wasmtime").unwrap());
        assert_ne!(one.digest, two.digest);
        assert_eq!(one.sha256, two.sha256);
    }

    #[test]
    fn an_unknown_bundle_is_refused_with_the_known_ones() {
        let bundle = bundle(&[]);
        let error = Artifact::load(bundle.path(), "spin").unwrap_err().to_string();
        assert!(error.ends_with("has no runtime `spin`; it has: wasmtime"), "{error}");
    }

    #[test]
    fn a_folder_without_a_shim_is_refused() {
        let bundle = bundle(&[("x", "")]);
        let error = Artifact::load(bundle.path(), "wasmtime").unwrap_err().to_string();
        assert!(error.ends_with("must hold exactly one file `containerd-shim-…`, it holds 0"), "{error}");
    }
}
