//! Why a cluster could not be made, changed or removed.

use crate::collect::CollectError;
use crate::control_plane::ControlPlaneError;
use crate::files::FileError;
use crate::names::ClusterName;
use crate::network;
use crate::node::NodeError;
use crate::pieces::PieceError;
use crate::preflight::PreflightError;
use crate::registry::RegistryError;
use crate::session::WaitError;
use crate::tool::ToolError;
use crate::wiring::NetworkError;

/// A cluster that could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The machine cannot hold one.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Something it is made of.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// Its name or place.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its control plane.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A tool.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It did not become ready, or a signal came.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Its logs could not be collected.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// There is no such node.
    #[error("cluster `{cluster}` has no node `{node}`; it has {}", known.join(", "))]
    UnknownNode {
        /// The cluster.
        cluster: ClusterName,
        /// What was asked for.
        node: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It is full.
    #[error("cluster `{0}` cannot have more than {max} nodes", max = network::NODES)]
    Full(ClusterName),
    /// Something of it could not be removed.
    #[error("cluster `{name}` left behind:\n  {}\nend what holds these, then run `cluster down --name {name}` again", left.join("\n  "))]
    Left {
        /// Its name.
        name: ClusterName,
        /// What is still there.
        left: Vec<String>,
    },
    /// It was never finished.
    #[error("cluster `{0}` is not whole (its making was cut short): remove it with `cluster down --name {0}`")]
    NotWhole(ClusterName),
}
