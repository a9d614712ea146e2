//! The user's road on a cluster: images, `helm install`, `kubectl annotate`, verified nodes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kwasm_test_cluster::{Cluster, Node};

use crate::{kubectl, paths};

/// How long nodes may take from their annotation to their labels; they take turns.
const PATIENCE: &str = "--timeout=300s";

/// The runtime that the chart brings.
const RUNTIME: &str = "wasmtime";

/// Puts images on every node: there is no registry.
///
/// # Errors
/// If a node does not take one.
pub fn import(cluster: &Cluster, archives: &[PathBuf]) -> Result<()> {
    let nodes = cluster.nodes()?;
    std::thread::scope(|scope| {
        let imports: Vec<_> = nodes.iter().map(|node| scope.spawn(|| import_on(node, archives))).collect();
        imports.into_iter().try_for_each(|import| import.join().map_err(|_| anyhow!("the import panicked"))?)
    })
}

/// Puts images on one node.
///
/// # Errors
/// If it does not take one.
pub fn import_on(node: &Node, archives: &[PathBuf]) -> Result<()> {
    let mut archives = archives.iter();
    archives.try_for_each(|archive| node.import(archive)).with_context(|| format!("import on {}", node.name()))
}

/// The first command of the README, and the operator's start.
pub(crate) fn install(cluster: &Cluster) -> Result<()> {
    let chart = paths::root().join("charts/kwasm-operator");
    // `upgrade --install` is `install` where nothing is installed yet; the demo may run twice.
    let words = ["upgrade", "--install", "-n", "kwasm", "--create-namespace", "kwasm-operator"];
    kubectl::helm(cluster, &[&words[..], &[&*chart.to_string_lossy()]].concat())?;
    kubectl::run(cluster, &["rollout", "status", "deployment", "-n", "kwasm", "--timeout=180s"]).map(drop)
}

/// The second command of the README.
pub(crate) fn annotate(cluster: &Cluster) -> Result<()> {
    kubectl::run(cluster, &["annotate", "node", "--all", "--overwrite", "kwasm.sh/kwasm-node=true"]).map(drop)
}

/// Waits until the RuntimeClass is there.
pub(crate) fn published(cluster: &Cluster) -> Result<()> {
    let class = format!("runtimeclass/{RUNTIME}");
    kubectl::run(cluster, &["wait", "--for=create", &class, PATIENCE]).map(drop)
}

/// Waits until a runtime is verified on every node.
pub(crate) fn verified(cluster: &Cluster, runtime: &str) -> Result<()> {
    let label = format!(r"--for=jsonpath={{.metadata.labels.runtime\.kwasm\.sh/{runtime}}}=ready");
    kubectl::run(cluster, &["wait", &label, "node", "--all", PATIENCE]).map(drop)
}

/// How long the nodes took from their annotation.
pub(crate) struct Provisioned {
    /// Until the RuntimeClass was there.
    pub(crate) published: Duration,
    /// Until every node was verified.
    pub(crate) verified: Duration,
}

/// Annotates every node and waits until each is verified.
pub(crate) fn provision(cluster: &Cluster) -> Result<Provisioned> {
    let started = Instant::now();
    annotate(cluster)?;
    published(cluster)?;
    let published = started.elapsed();
    verified(cluster, RUNTIME)?;
    Ok(Provisioned { published, verified: started.elapsed() })
}
