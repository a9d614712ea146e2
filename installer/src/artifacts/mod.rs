//! The binaries of a runtime: where they come from, and where they go on the node.
//!
//! - [`bundle`]: from the installer's image.
//! - [`remote`]: what is fetched, from a web server ([`download`]) or from an image ([`registry`], [`login`]).
//! - [`network`]: what must be known of the network before the node is entered.
//! - [`archive`], [`layer`]: what was fetched, unpacked with suspicion.
//! - [`program`]: whether this machine can run it.
//! - [`damage`]: what became of it on the node.
//! - [`fetch`]: the stage that uses all of these, before anything is changed.

pub mod archive;
pub mod bundle;
pub mod client;
pub mod compression;
pub mod credentials;
pub mod damage;
pub mod dns;
pub mod download;
pub mod fetch;
pub mod layer;
pub mod login;
pub mod names;
pub mod network;
pub mod program;
pub mod proxy;
pub mod reference;
pub mod registry;
pub mod remote;
pub mod tarball;
pub mod transfer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::host::Files;
use crate::host::files::{Attributes, FileError, prepared, temporary};

pub use bundle::{ArtifactError, available};
use remote::Remote;

/// The files of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Artifact {
    /// The folder's name: that of the bundle or, where it is fetched, of the runtime.
    pub name: String,
    /// Identifies the content, 16 hexadecimal digits: names and contents of all files or, where it is fetched, what
    /// the Order pins.
    pub digest: String,
    /// The file that containerd starts.
    pub shim: String,
    /// SHA-256 of that file; empty until it is fetched.
    pub sha256: String,
    /// All files, by name.
    pub files: Vec<String>,
    /// Where they are now; not remembered.
    #[serde(skip)]
    pub source: Place,
}

/// Where an artifact's files are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the node already.
    #[default]
    OnNode,
    /// In this folder, as this process sees it: of the bundle, or of what was fetched.
    Folder(PathBuf),
    /// Elsewhere: to be fetched before anything is changed.
    Remote(Remote),
}

impl Artifact {
    /// As the ledger keeps it.
    #[must_use]
    pub fn remembered(&self) -> Self {
        Self { source: Place::OnNode, ..self.clone() }
    }

    /// The artifact as it lies in a folder of the node.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn found(self, files: &Files, folder: &Path) -> Result<Self, FileError> {
        let shim = folder.join(&self.shim);
        let sha256 = file_digest(&files.locate(&shim)).map_err(|source| FileError {
            what: "read",
            path: shim.clone(),
            source,
        })?;
        Ok(Self { sha256, files: files.names(folder), source: Place::OnNode, ..self })
    }

    /// The folder that its files go to: another content is another folder.
    #[must_use]
    pub fn folder(&self, install_dir: &Path) -> PathBuf {
        runtimes_dir(install_dir).join(&self.name).join(&self.digest)
    }

    /// The path that configurations name: a link, so that a new binary needs no restart.
    #[must_use]
    pub fn link(&self, install_dir: &Path) -> PathBuf {
        bin_dir(install_dir).join(&self.shim)
    }

    /// Copies the files to the node: prepared beside their place, put there at once when all are on the disk.
    ///
    /// # Errors
    /// If that fails; what was prepared is removed at the next run.
    pub fn install(&self, files: &Files, folder: &Path) -> Result<(), FileError> {
        let prepared = temporary(folder);
        files.remove_tree(&prepared)?;
        files.make_dir(&prepared)?;
        for name in &self.files {
            self.copy(files, name, &prepared.join(name))?;
        }
        files.sync_dir(&prepared)?;
        files.rename(&prepared, folder)
    }

    fn copy(&self, files: &Files, name: &str, to: &Path) -> Result<(), FileError> {
        let Place::Folder(from) = &self.source else {
            let source = io::Error::other("its files were not fetched");
            return Err(FileError { what: "install", path: to.to_owned(), source });
        };
        let source = from.join(name);
        let mut content =
            File::open(&source).map_err(|error| FileError { what: "read", path: source.clone(), source: error })?;
        files.write_new(to, Attributes::PROGRAM, &mut content)
    }
}

/// Removes the folder of an artifact: under another name first, because half of it must never pass for the whole.
///
/// # Errors
/// If that fails; what stays is removed at the next run.
pub fn uninstall(files: &Files, folder: &Path) -> Result<(), FileError> {
    let aside = temporary(folder);
    files.remove_tree(&aside)?;
    if files.link_metadata(folder).is_none() {
        return Ok(());
    }
    files.rename(folder, &aside)?;
    files.remove_tree(&aside)
}

/// Where KWasm 0.2 had a folder `bin` with its binaries: on MicroK8s, the second (`script/installer.sh` of its installer).
pub const KWASM_0_2_DIRS: [&str; 2] = ["/opt/kwasm", "/var/snap/microk8s/common/kwasm"];

/// The folder of the links that configurations name; where KWasm 0.2 kept its binaries.
#[must_use]
pub fn bin_dir(install_dir: &Path) -> PathBuf {
    install_dir.join("bin")
}

/// The folder of all artifacts.
#[must_use]
pub fn runtimes_dir(install_dir: &Path) -> PathBuf {
    install_dir.join("runtimes")
}

/// Whether the folder of an artifact has such a name, finished or not.
#[must_use]
pub fn is_digest(name: &str) -> bool {
    let digest = prepared(name).unwrap_or(name);
    digest.len() == 16 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path leads to what is in the folder of an artifact.
#[must_use]
pub fn leads_into_artifact(runtimes: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(runtimes) else { return false };
    below.iter().nth(1).and_then(|name| name.to_str()).is_some_and(is_digest)
}

/// SHA-256 of a text in hexadecimal digits.
#[must_use]
pub fn text_digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// SHA-256 of a file in hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub fn file_digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
