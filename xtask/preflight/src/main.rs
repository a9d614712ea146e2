//! Says whether this machine can hold the test cluster, before anything is built.

use std::process::ExitCode;

fn main() -> ExitCode {
    match kwasm_preflight::Host::observe().unsuitable() {
        None => ExitCode::SUCCESS,
        Some(reason) => {
            eprintln!("kwasm: {reason}");
            ExitCode::FAILURE
        }
    }
}
