//! The user's road, on one real cluster with a node for each version of containerd.
//!
//! Tests run in phases, because some change what others stand on: first the empty cluster, then each node's workloads side by
//! side, then what nodes fetch, then what disturbs nodes, and last what takes KWasm away. A filter
//! (`cargo test -p kwasm-e2e -- greet`) runs single tests; the two commands of the README run as soon as a test needs them.

mod bad_input;
mod disruption;
mod first_steps;
mod hostile;
mod last_steps;
mod network_sources;
mod node_side;
mod phases;
mod workloads;

use std::process::ExitCode;

use kwasm_e2e::road::{Road, on_cluster};
use kwasm_test_cluster::ContainerdVersion;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return phases::list(&arguments);
    }
    on_cluster(|| Road::up("e2e", &ContainerdVersion::ALL), |road| phases::run(&arguments, road))
}
