//! From `kubectl apply` to a pod's first log line, for Linux and WebAssembly in turn.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kwasm_test_cluster::{Cluster, Node};
use serde_json::{Value, json};

use crate::kubectl;

/// Pods of each kind: an odd number, so that the median is one of them.
const ROUNDS: usize = 7;

struct Kind {
    title: &'static str,
    image: &'static str,
    runtime_class: Option<&'static str>,
    command: &'static [&'static str],
}

const KINDS: [Kind; 3] = [
    Kind { title: "Linux (static C)", image: "linux-hello", runtime_class: None, command: &["/linux-hello", "hello"] },
    Kind { title: "wasm (C, 28 kB)", image: "greet", runtime_class: Some("wasmtime"), command: &["greet", "hello"] },
    Kind {
        title: "wasm (Go, 2.7 MB)",
        image: "wasi-demo-app",
        runtime_class: Some("wasmtime"),
        command: &["/wasi-demo-app.wasm", "echo", "hello"],
    },
];

/// The figures of one node: for each kind the first pod, which may have to compile, and the median of the others.
pub(super) fn measure(cluster: &Cluster, node: &Node) -> Result<Vec<(String, String)>> {
    let mut times = KINDS.map(|_| Vec::new());
    // In turn, so that a busy moment of the machine hits each kind alike.
    for _ in 0..=ROUNDS {
        for (kind, times) in KINDS.iter().zip(&mut times) {
            times.push(first_line(cluster, node.name(), kind)?);
        }
    }
    let figure = |(kind, times): (&Kind, &mut Vec<Duration>)| {
        let (first, others) = times.split_first_mut()?;
        others.sort_unstable();
        let what = format!("containerd {}: apply → first log line, {}", node.containerd_version(), kind.title);
        Some((what, format!("{} ms (the first {} ms)", others[others.len() / 2].as_millis(), first.as_millis())))
    };
    Ok(KINDS.iter().zip(&mut times).filter_map(figure).collect())
}

/// Runs one pod; gives the time from `kubectl apply` to the line, which containerd notes as it writes the log.
fn first_line(cluster: &Cluster, node: &str, kind: &Kind) -> Result<Duration> {
    const POD: &str = "pod/bench";
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    serde_json::to_writer(&file, &pod(node, kind))?;
    let file = file.path().to_string_lossy();
    let applied = Timestamp::now();
    kubectl::run(cluster, &["apply", "-f", &file])?;
    kubectl::run(cluster, &["wait", "--for=jsonpath={.status.phase}=Succeeded", POD, "--timeout=60s"])?;
    let log = kubectl::run(cluster, &["logs", "--timestamps", POD])?;
    kubectl::run(cluster, &["delete", POD, "--wait"])?;
    let written = time_of_first_line(&log)?;
    Duration::try_from(written.duration_since(applied)).context("the line is older than its pod")
}

fn time_of_first_line(log: &str) -> Result<Timestamp> {
    let (time, _) = log.split_once(' ').with_context(|| format!("no time stands before the line: {log:?}"))?;
    time.parse().with_context(|| format!("{time:?} is no time"))
}

fn pod(node: &str, kind: &Kind) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bench"},
        "spec": {
            "runtimeClassName": kind.runtime_class,
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{
                "name": "bench",
                "image": kind.image,
                "imagePullPolicy": "IfNotPresent",
                "command": kind.command,
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_line_is_read_to_the_nanosecond() {
        let time = time_of_first_line("2026-11-21T07:00:00.123456789Z hello\n").unwrap();
        assert_eq!(time.subsec_nanosecond(), 123_456_789);
    }

    #[test]
    fn a_log_without_a_line_is_an_error_that_shows_it() {
        assert!(time_of_first_line("").unwrap_err().to_string().contains("\"\""));
    }
}
