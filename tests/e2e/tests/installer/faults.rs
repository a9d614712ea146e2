//! A real installer on a live node is killed at every point of its run, or what it does there fails.
//!
//! The points are those that a run without a fault passes: each change of a file and each command. Their combinations
//! with the faults are dealt out to the nodes, so that each is struck once.

use std::fmt;

use anyhow::{Context, Result, ensure};
use kwasm_e2e::site::Site;
use kwasm_test_cluster::ContainerdVersion;
use xtask::by_hand::{ByHand, said};

use crate::OnSite;
use crate::by_hand::order;

pub(crate) const TESTS: &[(&str, OnSite)] =
    &[("killed or failing at any point, the installer leaves a node that works and a rerun ends it", at_any_point)];

const PROGRAM: &str = "/root/faulty-installer";
const FAULTS: [&str; 5] = ["kill", "EIO", "ENOSPC", "EROFS", "EACCES"];

/// How many combinations there are for each that is struck: with `KWASM_TEST_LONG` none is left out. A prime, so that
/// every fault meets every kind of point.
fn stride() -> usize {
    if std::env::var_os("KWASM_TEST_LONG").is_some() { 1 } else { 31 }
}

/// The combinations that a node is dealt, as points and faults.
fn dealt(points: &[String], version: ContainerdVersion) -> Vec<(usize, &'static str)> {
    let all = unlike(points).into_iter().flat_map(|point| FAULTS.map(|fault| (point, fault)));
    let nodes = ContainerdVersion::ALL;
    let to = |card: usize| nodes[card % nodes.len()] == version;
    let struck = all.step_by(stride()).enumerate().filter(|(card, _)| to(*card));
    struck.map(|(_, combination)| combination).collect()
}

/// Of points that are like their neighbours, such as the many pieces of one program, the first, one in the middle, and
/// the last.
fn unlike(points: &[String]) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut next = 0;
    for alike in points.chunk_by(|one, other| one == other) {
        let (first, last) = (next, next + alike.len() - 1);
        chosen.extend([first, first.midpoint(last), last]);
        next = last + 1;
    }
    chosen.dedup();
    chosen
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Install,
    Upgrade,
    Uninstall,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Uninstall => "uninstall",
        })
    }
}

impl Change {
    const ALL: [Self; 3] = [Self::Install, Self::Upgrade, Self::Uninstall];

    /// The handlers before and after.
    fn handlers(self) -> [&'static [&'static str]; 2] {
        match self {
            Self::Install => [&[], &["wasmtime"]],
            Self::Upgrade => [&["wasmtime"], &["wasm-a", "wasmtime"]],
            Self::Uninstall => [&["wasmtime"], &[]],
        }
    }
}

fn at_any_point(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    let clean = installer.tree()?;
    for change in Change::ALL {
        let passed = strike(site, &installer, change, "none", 0)?;
        let points: Vec<String> = passed.lines().map(str::to_owned).collect();
        installer.apply(&order(&[]))?;
        let dealt = dealt(&points, site.node.containerd_version());
        for (point, fault) in &dealt {
            one(site, &installer, change, fault, *point, &clean)
                .with_context(|| format!("{change}, {fault} at point {point}, {}", points[*point]))?;
        }
        let (node, all, unlike) = (site.node.name(), points.len(), unlike(&points).len());
        let (faults, here) = (FAULTS.len(), dealt.len());
        eprintln!("{node}: {change}: {all} points, {unlike} of them unlike, × {faults} faults, {here} struck here");
    }
    Ok(())
}

/// Makes the state before, strikes, and follows the node to its end.
fn one(site: &Site<'_>, installer: &ByHand<'_>, change: Change, fault: &str, at: usize, clean: &str) -> Result<()> {
    let after = change.handlers()[1];
    strike(site, installer, change, fault, at)?;
    // The node's own unit brings its daemon back; nobody else does.
    site.node.run(&["systemctl", "start", "containerd"])?;
    site.node.run(&["ctr", "version"])?;
    installer.apply(&order(after))?;
    installer.run(&["verify"])?;
    installer.apply(&order(&[]))?;
    ensure!(installer.tree()? == clean, "the node is not what it was before");
    Ok(())
}

/// Runs the faulty installer from the state before; gives the points that it passed.
pub(crate) fn strike(
    site: &Site<'_>,
    installer: &ByHand<'_>,
    change: Change,
    fault: &str,
    at: usize,
) -> Result<String> {
    let [before, after] = change.handlers();
    installer.apply(&order(before))?;
    let program = site.path(PROGRAM);
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_faulty-installer"), program)?;
    }
    let (bundle, file) = (installer.bundle(), installer.order(&order(after))?);
    let output = site.node.exec(&[PROGRAM, fault, &at.to_string(), &bundle, &file])?;
    ensure!(fault != "none" || output.status.success(), "{}", said(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
