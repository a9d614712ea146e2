//! Gathering what explains a failure: logs, journals, events and objects.

use std::path::Path;

use crate::cluster::Cluster;
use crate::files::{self, FileError};
use crate::node::Node;
use crate::tool;

/// A folder that could not be filled.
#[derive(Debug, thiserror::Error)]
#[error("could not collect the logs: {0}")]
pub struct CollectError(#[from] FileError);

/// The objects that are written out, each kind in a file of its own.
const KINDS: [&str; 11] = [
    "nodes",
    "pods",
    "events",
    "deployments,replicasets,daemonsets",
    "jobs",
    "services,endpointslices",
    "configmaps",
    "runtimeclasses",
    "customresourcedefinitions",
    "wasmruntimes",
    "wasmnodes",
];

/// The units of a node whose logs get a file of their own.
const UNITS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// Fills `folder`. What cannot be had leaves its error message in the file instead.
pub(crate) fn collect(cluster: &Cluster, logs: &Path, folder: &Path) -> Result<(), CollectError> {
    for log in files::list(logs)? {
        let name = log.file_name().unwrap_or_default();
        files::make_folder(&folder.join("control-plane"))?;
        // A log that is gone was never written.
        let _ = std::fs::copy(&log, folder.join("control-plane").join(name));
    }
    objects(cluster, &folder.join("objects"))?;
    pod_logs(cluster, &folder.join("pods"))?;
    for node in cluster.nodes().unwrap_or_default() {
        collect_node(&node, &folder.join("nodes").join(node.name()))?;
    }
    Ok(())
}

fn objects(cluster: &Cluster, folder: &Path) -> Result<(), FileError> {
    for kinds in KINDS {
        let said = kubectl(cluster, &["get", kinds, "--all-namespaces", "-o", "yaml"]);
        files::write(&folder.join(format!("{}.yaml", kinds.split(',').next().unwrap_or(kinds))), said)?;
    }
    let wide =
        kubectl(cluster, &["get", "nodes,pods,jobs,deployments,runtimeclasses", "--all-namespaces", "-o", "wide"]);
    files::write(&folder.join("overview.txt"), wide)?;
    let sorted = kubectl(cluster, &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
    files::write(&folder.join("events.txt"), sorted)
}

fn pod_logs(cluster: &Cluster, folder: &Path) -> Result<(), FileError> {
    let format = "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
    let pods = kubectl(cluster, &["get", "pods", "--all-namespaces", "-o", format]);
    for (namespace, name) in pods.lines().filter_map(|line| line.split_once(' ')) {
        // A refused request prints a sentence, not a name.
        if name.contains(' ') {
            continue;
        }
        let words = ["logs", "-n", namespace, name, "--all-containers", "--prefix", "--ignore-errors"];
        files::write(&folder.join(format!("{namespace}-{name}.log")), kubectl(cluster, &words))?;
    }
    Ok(())
}

fn kubectl(cluster: &Cluster, words: &[&str]) -> String {
    let mut all = vec!["--request-timeout=10s"];
    all.extend(words);
    match cluster.kubectl(&all) {
        Ok(output) => format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        Err(error) => error.to_string(),
    }
}

/// Reads the journal from its files, so that a node that hangs or died is no obstacle.
fn collect_node(node: &Node, folder: &Path) -> Result<(), FileError> {
    let journal = node.root().join("var/log/journal");
    let read = |arguments: &[&str]| {
        let mut command = tool::command("journalctl", ["--no-pager", "--output=short-precise", "--directory"]);
        match tool::output(command.arg(&journal).args(arguments)) {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        }
    };
    files::write(&folder.join("journal.log"), read(&[]))?;
    for unit in UNITS {
        files::write(&folder.join(format!("{unit}.log")), read(&["--unit", unit]))?;
    }
    let commands: [(&str, &[&str]); 4] = [
        ("config.toml", &["cat", "/etc/containerd/config.toml"]),
        ("processes.txt", &["ps", "-eo", "pid,ppid,stat,etimes,rss,args", "--forest"]),
        ("containers.txt", &["ctr", "-n", "k8s.io", "containers", "list"]),
        ("images.txt", &["ctr", "-n", "k8s.io", "images", "list"]),
    ];
    for (file, words) in commands {
        let said = node.exec(words).map(|output| [output.stdout, output.stderr].concat());
        files::write(&folder.join(file), said.unwrap_or_else(|error| error.to_string().into_bytes()))?;
    }
    let console = std::fs::read(node.console()).unwrap_or_default();
    files::write(&folder.join("console.log"), console)
}
