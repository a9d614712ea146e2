//! `cargo xtask test`: every test that needs a cluster.

use std::env::join_paths;

use anyhow::Result;
use kwasm_test_cluster::{ContainerdVersion, Session, pieces};

use crate::command::{self, cargo};
use crate::steps::Steps;
use crate::{images, setup};

/// Set-up, images, then the tests of the cluster itself and those of the user's road on it.
///
/// # Errors
/// If one fails.
pub fn run() -> Result<()> {
    setup::run()?;
    let mut steps = Steps::new(4);
    steps.step("build the images", "the lines above; `cargo xtask images` builds them alone", || images::print(&[]))?;
    steps.step("test the installer with real containerds", "the lines above", installer_with_containerds)?;
    steps.step("test the cluster itself", "the lines above", || test("kwasm-test-cluster"))?;
    steps.step("test the user's road", "the folder of logs that is named above", || test("kwasm-e2e"))?;
    println!("all is well ({})", steps.elapsed());
    Ok(())
}

/// The installer's edits, loaded by every containerd that nodes run and by the newest one.
fn installer_with_containerds() -> Result<()> {
    let session = Session::to_stderr();
    let containerds = ContainerdVersion::ALL.map(|version| pieces::containerd(version, &session));
    let newest = pieces::newest_containerd(&session);
    let containerds = containerds.into_iter().chain([newest]).collect::<Result<Vec<_>, _>>()?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--package", "kwasm-installer", "--test", "node", "--", "--ignored"]);
    Ok(command::show(tests.env("KWASM_CONTAINERDS", join_paths(containerds)?))?)
}

fn test(package: &str) -> Result<()> {
    Ok(command::show(cargo().args(["test", "--locked", "--package", package]))?)
}
