//! `cargo xtask check`: what needs neither root nor a cluster.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{self, cargo};
use crate::steps::Steps;
use crate::{generate, paths};

/// Packages whose tests start a cluster: their tests run in [`crate::test`].
const ON_A_CLUSTER: [&str; 2] = ["kwasm-test-cluster", "kwasm-e2e"];

/// Formatting, generated files, lints and unit tests: the quick ones first.
///
/// # Errors
/// If one fails.
pub fn run() -> Result<()> {
    let mut steps = Steps::new(4);
    steps.step("formatting", "`cargo fmt` and `gofmt -w tests` mend it", formatting)?;
    steps.step("generated files", "the file that differs", || generate::generate(paths::root(), true))?;
    steps.step("lints", "the lines above", lints)?;
    steps.step("unit tests", "the lines above", unit_tests)?;
    println!("all is well ({})", steps.elapsed());
    Ok(())
}

fn formatting() -> Result<()> {
    command::show(cargo().args(["fmt", "--all", "--check"]))?;
    let unformatted = command::read(Command::new("gofmt").arg("-l").arg(paths::root().join("tests")))?;
    anyhow::ensure!(unformatted.trim().is_empty(), "gofmt would change: {}", unformatted.trim());
    Ok(())
}

fn lints() -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    command::show(&mut clippy).context("warnings count as errors")
}

fn unit_tests() -> Result<()> {
    let tests = || {
        let mut tests = cargo();
        tests.args(["test", "--quiet", "--locked"]);
        tests
    };
    let mut everywhere = tests();
    everywhere.arg("--workspace");
    for package in ON_A_CLUSTER {
        everywhere.args(["--exclude", package]);
    }
    command::show(&mut everywhere)?;
    let packages = ON_A_CLUSTER.iter().flat_map(|package| ["--package", package]);
    Ok(command::show(tests().args(packages).args(["--lib", "--bins"]))?)
}
