//! The user's road, on a real cluster: what its tests stand on.
//!
//! - [`kube`]: a blocking client that waits on conditions.
//! - [`manifest`]: the objects that tests make.
//! - [`road`]: the cluster with KWasm's images on every node.
//! - [`site`]: one node of it, on which a test runs its pods.

pub mod kube;
pub mod manifest;
pub mod road;
pub mod site;
