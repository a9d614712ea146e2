//! `cargo xtask bench`: how long the user's road takes and how big its pieces are, beside Linux containers on the
//! same nodes.
//!
//! machine → images → a cluster of its own → [`installer`] → KWasm on it → [`pods`] → the figures → the cluster goes.

mod installer;
mod pods;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kwasm_test_cluster::{Cluster, ClusterName, ContainerdVersion, Session};

use crate::road::{self, Provisioned};
use crate::{images, kubectl, setup};

const NAME: &str = "bench";

/// Measures, and prints the figures as a Markdown table.
///
/// # Errors
/// If something that is measured fails.
pub fn run() -> Result<()> {
    setup::run()?;
    let images = images::build_all()?;
    let name: ClusterName = NAME.parse()?;
    let session = Session::to_stderr();
    session.stop_on_signals()?;
    let started = Instant::now();
    let cluster = Cluster::up(&name, &ContainerdVersion::ALL, &session)?;
    let up = started.elapsed();
    let figures = measure(&cluster, &session);
    let gone = Cluster::down(&name, &session.uninterrupted());
    let figures = figures?;
    gone?;
    println!("{}\n", images::table(&images));
    println!("| what | figure |\n|---|---|\n| cluster up, its pieces cached | {:.1} s |", up.as_secs_f64());
    for (what, figure) in figures {
        println!("| {what} | {figure} |");
    }
    Ok(())
}

fn measure(cluster: &Cluster, session: &Session) -> Result<Vec<(String, String)>> {
    road::import(cluster, &images::archives()?)?;
    let mut figures = Vec::new();
    for node in cluster.nodes()? {
        session.check()?;
        session.say(format!("installing by hand on {}", node.name()));
        figures.extend(installer::measure(&node)?);
    }
    road::install(cluster)?;
    session.say("provisioning the nodes");
    let Provisioned { published, verified } = road::provision(cluster)?;
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    figures.extend([
        ("annotate → RuntimeClass ready".to_owned(), seconds(published)),
        ("annotate → every node verified".to_owned(), seconds(verified)),
        ("memory of the operator (PSS)".to_owned(), operator_memory(cluster)?),
    ]);
    for node in cluster.nodes()? {
        session.check()?;
        session.say(format!("starting pods on {}", node.name()));
        figures.extend(pods::measure(cluster, &node)?);
    }
    Ok(figures)
}

/// The operator's share of memory, on whichever node it runs.
fn operator_memory(cluster: &Cluster) -> Result<String> {
    let pods = kubectl::list(cluster, &["pods", "-n", "kwasm", "--field-selector", "status.phase=Running"])?;
    let of_operator = |name: &str| name.starts_with("kwasm-operator");
    let pod = pods.iter().find(|pod| pod["metadata"]["name"].as_str().is_some_and(of_operator));
    let node = pod.and_then(|pod| pod["spec"]["nodeName"].as_str()).context("the operator runs on no node")?;
    // `pgrep` compares the first 15 characters of a program's name.
    let rollup = cluster.node(node)?.run(&["sh", "-c", "cat /proc/$(pgrep -o -x kwasm-operator)/smaps_rollup"])?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}
