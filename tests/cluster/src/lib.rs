//! A real Kubernetes cluster on one machine, for tests and for people.
//!
//! The control plane runs as ordinary processes in a network namespace of its own; each node is a
//! nested machine with its own systemd, containerd and kubelet. Everything a cluster makes is
//! written down first, so that [`Cluster::down`] can remove all of it, whatever happened before.
//!
//! ```no_run
//! use kwasm_test_cluster::{Cluster, ContainerdVersion, Session};
//!
//! let session = Session::to_stderr();
//! let name = "demo".parse()?;
//! let cluster = Cluster::up(&name, &ContainerdVersion::ALL, &session)?;
//! let pods = cluster.kubectl(&["get", "pods", "-A"])?;
//! let version = cluster.node("2.1")?.run(&["containerd", "--version"])?;
//! Cluster::down(&name, &session)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cgroup;
mod cluster;
mod collect;
mod containerd;
mod control_plane;
mod files;
mod ledger;
mod limits;
mod mounts;
mod names;
mod network;
mod node;
pub mod pieces;
mod pki;
mod preflight;
mod process;
mod registry;
mod session;
mod status;
mod tool;
pub mod vm;
mod wiring;

pub mod cli;

pub use cluster::{Cluster, ClusterError};
pub use collect::CollectError;
pub use containerd::{ContainerdVersion, UnknownVersion};
pub use control_plane::ControlPlaneError;
pub use files::FileError;
pub use names::{BadName, ClusterName};

pub use node::{Node, NodeError};
pub use pieces::PieceError;
pub use pki::PkiError;
pub use preflight::PreflightError;
pub use process::{ProcessId, StartError};
pub use registry::{RegistryError, names as cluster_names};
pub use session::{Session, WaitError};
pub use tool::ToolError;
pub use wiring::NetworkError;
