//! What `cluster status` says.

use std::fmt::Write as _;

use crate::cluster::{Cluster, ClusterError};
use crate::control_plane::PROGRAMS;
use crate::ledger::Made;
use crate::names::ClusterName;
use crate::registry;
use crate::session::Session;

/// A few lines about every cluster of this machine.
///
/// # Errors
/// When the clusters' folder cannot be read.
pub(crate) fn all(session: &Session) -> Result<String, ClusterError> {
    let names = registry::names()?;
    if names.is_empty() {
        return Ok("no clusters\n".to_owned());
    }
    Ok(names.iter().map(|name| of(name, session)).collect())
}

/// A few lines about one.
fn of(name: &ClusterName, session: &Session) -> String {
    let cluster = match Cluster::open(name, session) {
        Ok(cluster) => cluster,
        Err(error) => return format!("{name}: {error}\n"),
    };
    let state = if cluster.folder().join("whole").exists() { "up" } else { "not whole" };
    let mut text = format!("{name}: {state}\n  kubeconfig     {}\n", cluster.kubeconfig().display());
    for made in cluster.ledger().entries() {
        if let Made::Process { what, id } = made
            && PROGRAMS.contains(&what.as_str())
        {
            let state = if id.is_alive() { format!("pid {}", id.pid) } else { "ended".to_owned() };
            let _ = writeln!(text, "  control plane  {what}: {state}");
        }
    }
    for node in cluster.nodes().unwrap_or_default() {
        let state = if node.is_running() { "running" } else { "ended" };
        let _ = writeln!(text, "  node           {} ({}): {state}", node.name(), node.address());
    }
    text
}
