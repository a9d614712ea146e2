//! The user's road, on one real cluster with a node for each version of containerd.
//!
//! Tests run in phases, because some change what others stand on: first the empty cluster, then each node's workloads side by
//! side, then what disturbs nodes, and last what takes KWasm away. A filter (`cargo test -p kwasm-e2e -- greet`) runs
//! single tests; the two commands of the README run as soon as a test needs them.

mod bad_input;
mod disruption;
mod first_steps;
mod hostile;
mod last_steps;
mod node_side;
mod phases;
mod workloads;

use std::process::ExitCode;
use std::sync::Arc;

use kwasm_e2e::road::Road;
use kwasm_test_cluster::ContainerdVersion;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return phases::list(&arguments);
    }
    let road = match Road::up("e2e", &ContainerdVersion::ALL) {
        Ok(road) => Arc::new(road),
        Err(error) => {
            eprintln!("the cluster did not start: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let failed = phases::run(&arguments, &road);
    match Arc::into_inner(road).map(|road| road.down(failed)) {
        Some(Ok(())) if !failed => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("the cluster did not end: {error:?}");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}
