//! The command `cluster`: see `cluster --help`.

use std::process::ExitCode;

use clap::Parser as _;
use kwasm_test_cluster::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
