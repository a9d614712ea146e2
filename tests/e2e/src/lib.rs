//! The user's road, on a real cluster: what its tests stand on.
//!
//! - [`by_hand`]: the installer as a person uses it.
//! - [`kube`]: a blocking client that waits on conditions.
//! - [`manifest`]: the objects that tests make.
//! - [`road`]: the cluster with KWasm's images on every node.
//! - [`site`]: one node of it, on which a test runs its pods.

pub mod by_hand;
pub mod kube;
pub mod manifest;
pub mod road;
pub mod site;
