//! `cargo xtask test`: every test that needs a cluster.

use std::env::join_paths;
use std::process::Command;

use anyhow::Result;
use kwasm_test_cluster::{ContainerdVersion, Session, pieces};

use crate::command::{self, cargo};
use crate::steps::Steps;
use crate::{images, setup};

/// How often the tests repeat what only repetition shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Enough to see that it works; before every change.
    Usual,
    /// Enough to trust it: an hour on two cores.
    Long,
}

/// Tells the tests of [`Length::Long`].
const LONG: &str = "KWASM_TEST_LONG";

/// Set-up, images, then the tests of the cluster itself and those of the user's road on it.
///
/// # Errors
/// If one fails.
pub fn run(length: Length) -> Result<()> {
    setup::run()?;
    let mut steps = Steps::new(4);
    steps.step("build the images", "the lines above; `cargo xtask images` builds them alone", || images::print(&[]))?;
    steps.step("test the installer with real containerds", "the lines above", || installer_with_containerds(length))?;
    steps.step("test the cluster itself", "the lines above", || test("kwasm-test-cluster", length))?;
    steps.step("test the user's road", "the folder of logs that is named above", || test("kwasm-e2e", length))?;
    println!("all is well ({})", steps.elapsed());
    Ok(())
}

/// The installer's edits, rendered by Go's template engine where a distribution does so, and loaded by every containerd
/// that nodes run and by the newest one.
fn installer_with_containerds(length: Length) -> Result<()> {
    let session = Session::to_stderr();
    let containerds = ContainerdVersion::ALL.map(|version| pieces::containerd(version, &session));
    let newest = pieces::newest_containerd(&session);
    let containerds = containerds.into_iter().chain([newest]).collect::<Result<Vec<_>, _>>()?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--package", "kwasm-installer"]);
    match length {
        Length::Usual => tests.args(["--test", "node", "--", "--ignored", "--nocapture"]),
        // Its properties and campaigns as well, which `cargo xtask check` runs in their usual length.
        Length::Long => tests.args(["--lib", "--tests", "--", "--include-ignored", "--nocapture"]),
    };
    tests.env("KWASM_CONTAINERDS", join_paths(containerds)?);
    tests.env("KWASM_RANCHER_TEMPLATE", pieces::rancher_template(&session)?);
    Ok(command::show(lasting(&mut tests, length))?)
}

fn test(package: &str, length: Length) -> Result<()> {
    Ok(command::show(lasting(cargo().args(["test", "--locked", "--package", package]), length))?)
}

fn lasting(command: &mut Command, length: Length) -> &mut Command {
    match length {
        Length::Usual => command.env_remove(LONG),
        Length::Long => command.env(LONG, "1"),
    }
}
