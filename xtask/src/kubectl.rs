//! kubectl and helm on a cluster of ours: a failure says what they said.

use std::process::Output;

use anyhow::{Result, bail};
use kwasm_test_cluster::Cluster;
use serde_json::Value;

use crate::paths;

/// Runs kubectl and gives what it printed.
pub(crate) fn run(cluster: &Cluster, words: &[&str]) -> Result<String> {
    succeeded("kubectl", words, &cluster.kubectl(words)?)
}

/// Runs helm.
pub(crate) fn helm(cluster: &Cluster, words: &[&str]) -> Result<()> {
    succeeded("helm", words, &cluster.helm(words)?).map(drop)
}

/// Applies a manifest of the project.
pub(crate) fn apply(cluster: &Cluster, file: &str) -> Result<()> {
    run(cluster, &["apply", "-f", &path(file)]).map(drop)
}

/// Reads a list of objects.
pub(crate) fn list(cluster: &Cluster, words: &[&str]) -> Result<Vec<Value>> {
    let text = run(cluster, &[&["get", "-o", "json"], words].concat())?;
    let mut list: Value = serde_json::from_str(&text)?;
    Ok(serde_json::from_value(list["items"].take())?)
}

/// The path of one of the project's files.
pub(crate) fn path(file: &str) -> String {
    paths::root().join(file).to_string_lossy().into_owned()
}

/// How a person runs the cluster's kubectl.
pub(crate) fn line(cluster: &Cluster) -> String {
    format!("cargo run -q -p kwasm-test-cluster -- kubectl --name {}", cluster.name().as_str())
}

fn succeeded(program: &str, words: &[&str], output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("`{program} {}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}
