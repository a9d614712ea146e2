//! What the installer tells a person of a live node, in words, in JSON and by its exit code.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use kwasm_e2e::site::Site;
use serde_json::Value;
use xtask::by_hand::{ByHand, said};

use crate::OnSite;
use crate::by_hand::order;
use crate::faults::{Change, strike};

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("a run that was killed is told by status and verify, and recover ends it", killed_and_recovered),
    ("what the command line names and is not there is refused with exit code 2", refused),
];

/// Runs a command that must end with this exit code.
fn ends_with(installer: &ByHand<'_>, code: i32, arguments: &[&str]) -> Result<Output> {
    let output = installer.exec(arguments)?;
    let words = arguments.join(" ");
    ensure!(output.status.code() == Some(code), "`{words}` ended with {}:\n{}", output.status, said(&output));
    Ok(output)
}

fn json(installer: &ByHand<'_>, code: i32, command: &str) -> Result<Value> {
    let output = ends_with(installer, code, &[command, "--output", "json"])?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("`{command}` printed no JSON"))
}

fn killed_and_recovered(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    let clean = installer.tree()?;
    let points = strike(site, &installer, Change::Install, "none", 0)?;
    let restart = points.lines().position(|point| point.contains("restart")).context("no restart")?;
    installer.apply(&order(&[]))?;
    strike(site, &installer, Change::Install, "kill", restart)?;

    let status = said(&ends_with(&installer, 1, &["status"])?);
    ensure!(status.contains("an earlier run was cut off: `kwasm-installer recover` ends it"), "{status}");
    ends_with(&installer, 1, &["verify"])?;
    ends_with(&installer, 0, &["recover"])?;
    let verified = ends_with(&installer, 0, &["verify"])?;
    ensure!(verified.stdout.is_empty() && verified.stderr.is_empty(), "{}", said(&verified));
    let status = json(&installer, 0, "status")?;
    ensure!(status["runtimes"][0]["name"] == "wasmtime" && status["runtimes"][0]["served"] == true, "{status}");
    let again = said(&ends_with(&installer, 0, &["recover"])?);
    ensure!(again == "no run was cut off: nothing to recover\n", "{again}");

    let order = installer.order(&order(&[]))?;
    let plan = said(&ends_with(&installer, 0, &["plan", "--order", &order])?);
    ensure!(plan.contains("-[plugins.") && installer.exec(&["verify"])?.status.success(), "{plan}");
    let removed = json(&installer, 0, "uninstall")?;
    ensure!(removed["runtimes"][0]["state"] == "Removed" && removed["restarts"] == 1, "{removed}");
    ensure!(installer.tree()? == clean, "the node is not what it was before");
    Ok(())
}

fn refused(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    let footprint = installer.footprint()?;
    let wrong: [(&[&str], &str); 4] = [
        (&["uninstall", "spin"], "no runtime `spin` of ours is on this node; there is: none"),
        (&["install", "--install-dir", "here"], "--install-dir `here` is not an absolute path without `..`"),
        (&["apply"], "no Order: give --order FILE, or set KWASM_ORDER"),
        (&["apply", "--order", "/no-such-file"], "/no-such-file: No such file or directory"),
    ];
    for (arguments, words) in wrong {
        let message = said(&ends_with(&installer, 2, arguments)?);
        ensure!(message.contains(words), "{message}");
    }
    let message = said(&ends_with(&installer, 3, &["install", "spin"])?);
    let node = site.node.name();
    ensure!(message.contains("has no runtime `spin`; it has: wasmtime"), "{message}");
    ensure!(message.contains(&format!("The node {node} is unchanged. What to do: ")), "{message}");
    ensure!(installer.footprint()? == footprint, "something was written");
    Ok(())
}
