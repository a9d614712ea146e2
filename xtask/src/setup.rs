//! `cargo xtask setup`: makes a bare Debian 12 ready to build and to hold the test cluster.

mod packages;

use std::collections::BTreeSet;
use std::process::Command;

use kwasm_preflight::Host;
use thiserror::Error;

pub use packages::{PACKAGES, Package};

use crate::command::{self, CommandError};

/// A machine that is not ready, and cannot be made so.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The machine cannot hold the cluster.
    #[error("{0}")]
    Unsuitable(String),
    /// A package could not be installed.
    #[error("the packages could not be installed: {0}")]
    Packages(#[from] CommandError),
}

/// Checks the machine and installs what is missing. Silent where nothing is.
///
/// # Errors
/// If the machine is unsuitable (nothing was done then), or apt fails.
pub fn run() -> Result<(), SetupError> {
    if let Some(reason) = Host::observe().unsuitable() {
        return Err(SetupError::Unsuitable(reason));
    }
    let missing = missing(&installed()?);
    if missing.is_empty() {
        return Ok(());
    }
    println!("This machine lacks some Debian packages; apt installs them now:");
    for package in &missing {
        println!("  {:<26} {}", package.name, package.reason);
    }
    install(&missing)?;
    Ok(())
}

/// The names of our packages that are installed.
fn installed() -> Result<BTreeSet<String>, CommandError> {
    // Not `dpkg-query --show NAME…`: it fails where one of them is unknown.
    let list = command::read(Command::new("dpkg-query").args(["--show", "--showformat", "${Package} ${Status}\n"]))?;
    Ok(parse_installed(&list))
}

fn parse_installed(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| line.strip_suffix(" install ok installed")).map(str::to_owned).collect()
}

fn missing(installed: &BTreeSet<String>) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| !installed.contains(package.name)).collect()
}

fn install(packages: &[&Package]) -> Result<(), CommandError> {
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        apt
    };
    command::read(apt().arg("update"))?;
    let names = packages.iter().map(|package| package.name);
    command::read(apt().args(["install", "--yes", "--no-install-recommends"]).args(names)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_where_every_package_is_installed() {
        let list: String = PACKAGES.iter().map(|p| format!("{} install ok installed\n", p.name)).collect();
        assert!(missing(&parse_installed(&list)).is_empty());
    }

    #[test]
    fn a_removed_package_whose_configuration_stayed_is_missing() {
        let installed = parse_installed("buildah deinstall ok config-files\nclang install ok installed\n");
        let names: Vec<_> = missing(&installed).iter().map(|package| package.name).collect();
        assert!(names.contains(&"buildah") && !names.contains(&"clang"));
    }

    #[test]
    fn no_package_is_listed_twice() {
        let names: BTreeSet<_> = PACKAGES.iter().map(|package| package.name).collect();
        assert_eq!(names.len(), PACKAGES.len());
    }
}
