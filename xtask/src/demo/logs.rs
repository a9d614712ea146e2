//! The logs of the demo's pods, with the node and the containerd that each came from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kwasm_test_cluster::Cluster;
use serde_json::Value;

use crate::kubectl;

/// How long a scheduled pod may take until its first line.
const FIRST_LINE: Duration = Duration::from_secs(120);

/// How often the logs are asked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A workload of `demo/workloads.yaml`.
struct Workload {
    /// Finds its pods.
    selector: &'static str,
    pods: usize,
    /// What each of them prints.
    line: &'static str,
}

const WORKLOADS: [Workload; 2] = [
    Workload { selector: "app=wasm-hello", pods: 3, line: "duizhang" },
    Workload { selector: "job-name=greet", pods: 1, line: "Hello, duizhangwww!" },
];

/// What one pod printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The node's name.
    pub(super) node: String,
    /// The node's runtime as kubelet tells it, such as `containerd://1.6.20`.
    pub(super) containerd: String,
    pub(super) pod: String,
    pub(super) text: String,
}

/// Waits until every pod has printed its line.
pub(super) fn read(cluster: &Cluster) -> Result<Vec<Line>> {
    let versions = versions(&kubectl::list(cluster, &["nodes"])?);
    let started = Instant::now();
    loop {
        match look(cluster, &versions)? {
            Ok(lines) => return Ok(lines),
            Err(missing) if started.elapsed() > FIRST_LINE => {
                bail!("after {} s {missing}", FIRST_LINE.as_secs())
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Every pod's line; if one has not printed it, which and what it printed instead.
fn look(cluster: &Cluster, versions: &BTreeMap<String, String>) -> Result<Result<Vec<Line>, String>> {
    let mut lines = Vec::new();
    for Workload { selector, pods: wanted, line: expected } in WORKLOADS {
        let pods = pods(&kubectl::list(cluster, &["pods", "-l", selector])?);
        if pods.len() < wanted {
            return Ok(Err(format!("there are {} of {wanted} pods with {selector}", pods.len())));
        }
        for Pod { name: pod, node, trouble } in pods {
            // A pod whose container was never started has no log, and kubectl fails.
            let log = kubectl::run(cluster, &["logs", &pod]).unwrap_or_default();
            let Some(text) = log.lines().find(|line| *line == expected) else {
                let instead = trouble.unwrap_or_else(|| log.trim().to_owned());
                return Ok(Err(format!("{pod} on {node} has not printed `{expected}` but: {instead}")));
            };
            let containerd = versions.get(&node).cloned().unwrap_or_default();
            lines.push(Line { node, containerd, pod, text: text.to_owned() });
        }
    }
    Ok(Ok(lines))
}

/// The runtime of each node.
fn versions(nodes: &[Value]) -> BTreeMap<String, String> {
    let version = |node: &Value| {
        let name = node["metadata"]["name"].as_str()?.to_owned();
        Some((name, node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str()?.to_owned()))
    };
    nodes.iter().filter_map(version).collect()
}

/// A pod that is not going away.
#[derive(Debug, PartialEq, Eq)]
struct Pod {
    name: String,
    node: String,
    /// Why its container does not run, as kubelet tells it.
    trouble: Option<String>,
}

fn pods(pods: &[Value]) -> Vec<Pod> {
    let pod = |pod: &Value| {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("no node yet").to_owned();
        let container = &pod["status"]["containerStatuses"][0];
        let words = [&container["lastState"]["terminated"]["message"], &container["state"]["waiting"]["message"]];
        let trouble = words.iter().find_map(|words| words.as_str()).map(|words| words.trim().to_owned());
        Some(Pod { name: pod["metadata"]["name"].as_str()?.to_owned(), node, trouble })
    };
    pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).filter_map(pod).collect()
}

/// Fails unless a pod printed its line on a node of each version.
pub(super) fn on_every_version(lines: &[Line], versions: &[&str]) -> Result<()> {
    for version in versions {
        let prefix = format!("containerd://{version}.");
        ensure!(
            lines.iter().any(|line| line.containerd.starts_with(&prefix)),
            "no pod printed anything on the node with containerd {version}"
        );
    }
    Ok(())
}

/// The lines, for people.
pub(super) fn table(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| [&line.node, &line.containerd, &line.pod, &line.text].map(String::as_str));
    let rows: Vec<_> = [["NODE", "CONTAINERD", "POD", "LOG"]].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [node, containerd, pod] = [width(0), width(1), width(2)];
    let text = |[n, c, p, log]: &[&str; 4]| format!("{n:<node$}  {c:<containerd$}  {p:<pod$}  {log}\n");
    rows.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(containerd: &str) -> Line {
        Line { node: "n".into(), containerd: containerd.into(), pod: "p".into(), text: "duizhang".into() }
    }

    #[test]
    fn a_version_without_a_log_is_named() {
        let lines = [line("containerd://1.6.20~ds1"), line("containerd://2.1.9")];
        let error = on_every_version(&lines, &["1.6", "1.7", "2.1"]).unwrap_err().to_string();
        assert!(error.contains("containerd 1.7"), "{error}");
        assert!(on_every_version(&lines, &["1.6", "2.1"]).is_ok());
    }

    #[test]
    fn a_pod_that_is_going_away_does_not_count() {
        let stays = serde_json::json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}});
        let goes = serde_json::json!({"metadata": {"name": "b", "deletionTimestamp": "2026-11-21T00:00:00Z"}});
        assert_eq!(pods(&[stays, goes]), [Pod { name: "a".into(), node: "n".into(), trouble: None }]);
    }

    #[test]
    fn a_container_that_cannot_be_made_says_why() {
        let pod = serde_json::json!({
            "metadata": {"name": "a"},
            "status": {"containerStatuses": [{"state": {"waiting": {"message": "no such file"}}}]},
        });
        assert_eq!(pods(&[pod])[0].trouble.as_deref(), Some("no such file"));
    }

    #[test]
    fn the_columns_of_the_table_line_up() {
        let table = table(&[line("containerd://1.6.20~ds1"), line("containerd://2.1.9")]);
        let column = |line: &str| line.find("duizhang");
        let rows: Vec<_> = table.lines().skip(1).map(column).collect();
        assert_eq!(rows[0], rows[1]);
    }
}
