//! `cargo xtask`: the project's own tasks.

use std::process::ExitCode;

use clap::Parser;
use xtask::{bench, check, demo, generate, images, paths, setup, steps, test};

#[derive(Parser)]
#[command(name = "cargo xtask", about)]
enum Task {
    /// Make this machine ready: check it, install the Debian packages that are missing
    Setup,
    /// Build container images (all without a name), as archives for `ctr images import`
    Images { names: Vec<String> },
    /// Write the files that are made from the code; with --check, only compare
    #[rustfmt::skip]
    Generate { #[arg(long)] check: bool },
    /// Formatting, lints, generated files, unit tests
    Check,
    /// Every test, on a real cluster; with --long, loops and campaigns in the length that trust needs
    #[rustfmt::skip]
    Test { #[arg(long)] long: bool },
    /// How fast and how big, with Linux containers beside
    Bench,
    /// KWasm on a real cluster of this machine, and wasm pods' logs
    #[command(subcommand)]
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup => setup::run().map_err(Into::into),
        Task::Images { names } => images::print(&names),
        Task::Generate { check } => generate::generate(paths::root(), check),
        Task::Check => check::run(),
        Task::Test { long } => test::run(if long { test::Length::Long } else { test::Length::Usual }),
        Task::Bench => bench::run(),
        Task::Demo(demo) => demo::run(demo),
    };
    done.map_or_else(|error| steps::fail(&error), |()| ExitCode::SUCCESS)
}
