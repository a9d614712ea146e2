//! What a cluster is made of: made once, then kept in the cache.
//!
//! Each piece lives in a folder whose name ends in a digest of everything that went into it, so
//! that a changed input makes a new piece. The cache is `$KWASM_CACHE`, or `~/.cache/kwasm`.

mod cache;
mod debian;
mod golang;
mod pause;

use std::path::PathBuf;

use crate::containerd::ContainerdVersion;
use crate::files::FileError;
use crate::session::{Session, WaitError};
use crate::tool::ToolError;

pub(crate) use cache::{Workshop, piece};
pub(crate) use debian::{MIRROR_VARIABLE, SUITE, apt, base, docker_layer};
pub(crate) use pause::OLDER_REFERENCES as OLDER_PAUSE_REFERENCES;

/// A piece that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// A tool failed.
    #[error("could not make {piece}: {source}")]
    Tool {
        /// The piece.
        piece: String,
        /// The tool's error.
        source: ToolError,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A signal came.
    #[error(transparent)]
    Interrupted(#[from] WaitError),
    /// Debian carries another version than the one wanted.
    #[error(
        "Debian {suite} now carries {package} {found}, not {wanted}: do without it (for containerd, leave {wanted} out of \
         the node versions), or point ${MIRROR_VARIABLE} to an older snapshot of the archive"
    )]
    OtherVersion {
        /// The Debian release.
        suite: &'static str,
        /// The package.
        package: &'static str,
        /// What it carries.
        found: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// There is no home folder to keep the cache in.
    #[error("where to keep the pieces is unknown: set $KWASM_CACHE or $HOME")]
    NoCache,
}

/// Every piece that nodes of some versions and their control plane need.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    /// The program that is every Kubernetes program.
    pub(crate) hyperkube: PathBuf,
    /// The OCI archive of the pause image.
    pub(crate) pause: PathBuf,
    /// The root file system all nodes share.
    base: PathBuf,
    /// What lies over it for nodes with another containerd.
    layers: Vec<(ContainerdVersion, PathBuf)>,
}

impl Pieces {
    /// Makes what is missing for nodes of these versions.
    ///
    /// # Errors
    /// When a piece cannot be made.
    pub(crate) fn prepare(versions: &[ContainerdVersion], session: &Session) -> Result<Self, PieceError> {
        let hyperkube = golang::hyperkube(session)?;
        let base = debian::base(session)?;
        let mut layers = Vec::new();
        for version in versions {
            if let Some(layer) = debian::containerd_layer(*version, &base, session)? {
                layers.push((*version, layer));
            }
        }
        let pause = pause::archive(session)?;
        Ok(Self { hyperkube, pause, base, layers })
    }

    /// The layers of a node's root file system, topmost first.
    pub(crate) fn lower_folders(&self, version: ContainerdVersion) -> Vec<PathBuf> {
        let layer = self.layers.iter().find(|(of, _)| *of == version).map(|(_, path)| path.clone());
        layer.into_iter().chain([self.base.clone()]).collect()
    }
}

/// The program that holds etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
/// kube-proxy and kubectl; the first argument picks one. Built if it is not in the cache.
///
/// # Errors
/// When it cannot be built.
pub fn hyperkube(session: &Session) -> Result<PathBuf, PieceError> {
    golang::hyperkube(session)
}

/// The `helm` program. Built if it is not in the cache.
///
/// # Errors
/// When it cannot be built.
pub fn helm(session: &Session) -> Result<PathBuf, PieceError> {
    golang::helm(session)
}

/// Makes everything that a cluster with nodes of these versions needs and that is not in the
/// cache yet, helm included.
///
/// # Errors
/// When something cannot be made.
pub fn prepare(versions: &[ContainerdVersion], session: &Session) -> Result<(), PieceError> {
    Pieces::prepare(versions, session)?;
    golang::helm(session).map(drop)
}

/// The `containerd` program of a version, as its nodes run it.
///
/// # Errors
/// When it cannot be had.
pub fn containerd(version: ContainerdVersion, session: &Session) -> Result<PathBuf, PieceError> {
    let base = debian::base(session)?;
    let layer = debian::containerd_layer(version, &base, session)?;
    Ok(layer.unwrap_or(base).join("usr/bin/containerd"))
}

/// The newest `containerd` program there is, for its format of configurations: no node runs it. Built if it is
/// not in the cache.
///
/// # Errors
/// When it cannot be built.
pub fn newest_containerd(session: &Session) -> Result<PathBuf, PieceError> {
    golang::containerd(session)
}

/// The program that renders containerd's configuration from a template, as k3s and RKE2 do when they start. Built if
/// it is not in the cache.
///
/// # Errors
/// When it cannot be built.
pub fn rancher_template(session: &Session) -> Result<PathBuf, PieceError> {
    golang::rancher_template(session)
}

/// The OCI archive of the pause image, `registry.k8s.io/pause:3.10`.
///
/// # Errors
/// When it cannot be built.
pub fn pause(session: &Session) -> Result<PathBuf, PieceError> {
    pause::archive(session)
}

/// A registry's program, `docker-registry`: the distribution project's, as Debian 12 has it. Unpacked if it is not in
/// the cache.
///
/// # Errors
/// When it cannot be had.
pub fn registry(session: &Session) -> Result<PathBuf, PieceError> {
    Ok(debian::registry(session)?.join("usr/bin/docker-registry"))
}
