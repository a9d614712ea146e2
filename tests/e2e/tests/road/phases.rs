//! Which tests there are, and which may run side by side.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use kwasm_e2e::road::Road;
use kwasm_e2e::site::Site;
use kwasm_test_cluster::ContainerdVersion;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{bad_input, disruption, first_steps, hostile, last_steps, network_sources, node_side, workloads};

/// A test of the whole cluster.
pub(crate) type OnRoad = fn(&Road) -> Result<()>;

/// A test that every node passes.
pub(crate) type OnSite = fn(&Site<'_>) -> Result<()>;

enum Phase {
    /// One test after the other.
    Cluster(&'static [(&'static str, OnRoad)]),
    /// At most so many nodes at a time; on one node, one test after the other.
    Nodes(usize, &'static [(&'static str, OnSite)]),
}

/// Nodes lose their runtime in the disruptive phase, two at a time: the RuntimeClass stays with the third.
const PHASES: [Phase; 8] = [
    Phase::Cluster(first_steps::TESTS),
    Phase::Nodes(3, workloads::TESTS),
    Phase::Nodes(3, bad_input::TESTS),
    Phase::Nodes(3, hostile::TESTS),
    Phase::Nodes(3, node_side::TESTS),
    Phase::Cluster(network_sources::TESTS),
    Phase::Nodes(2, disruption::TESTS),
    Phase::Cluster(last_steps::TESTS),
];

/// The cluster, or none while tests are only listed; each node has one test at a time.
#[derive(Clone)]
struct Stage {
    road: Option<Arc<Road>>,
    turns: Arc<[Mutex<()>; ContainerdVersion::ALL.len()]>,
}

/// Prints the names of all tests.
pub(crate) fn list(arguments: &Arguments) -> ExitCode {
    let stage = Stage { road: None, turns: Arc::default() };
    libtest_mimic::run(arguments, PHASES.iter().flat_map(|phase| trials(phase, &stage)).collect()).exit_code()
}

/// Runs all phases; whether a test failed.
pub(crate) fn run(arguments: &Arguments, road: &Arc<Road>) -> bool {
    let stage = Stage { road: Some(Arc::clone(road)), turns: Arc::default() };
    PHASES.iter().fold(false, |failed, phase| {
        let mut arguments = arguments.clone();
        arguments.test_threads = Some(match phase {
            Phase::Cluster(_) => 1,
            Phase::Nodes(at_once, _) => *at_once,
        });
        libtest_mimic::run(&arguments, trials(phase, &stage)).has_failed() | failed
    })
}

fn trials(phase: &Phase, stage: &Stage) -> Vec<Trial> {
    match phase {
        Phase::Cluster(tests) => tests.iter().map(|(name, test)| on_road(stage, name, *test)).collect(),
        Phase::Nodes(_, tests) => {
            let on_each = |(name, test): &(&'static str, OnSite)| {
                [0, 1, 2].map(|node| on_site(stage, name, ContainerdVersion::ALL[node], node, *test))
            };
            tests.iter().flat_map(on_each).collect()
        }
    }
}

fn on_road(stage: &Stage, name: &str, test: OnRoad) -> Trial {
    let stage = stage.clone();
    Trial::test(name, move || with(&stage, test))
}

fn on_site(stage: &Stage, name: &str, version: ContainerdVersion, node: usize, test: OnSite) -> Trial {
    let stage = stage.clone();
    Trial::test(format!("{name} [containerd {version}]"), move || {
        let _turn = stage.turns[node].lock().unwrap_or_else(PoisonError::into_inner);
        with(&stage, |road| {
            road.provisioned()?;
            test(&road.site(version)?)
        })
    })
}

fn with(stage: &Stage, test: impl FnOnce(&Road) -> Result<()>) -> Result<(), Failed> {
    let road = stage.road.as_ref().ok_or("there is no cluster")?;
    road.not_interrupted().and_then(|()| test(road)).map_err(|error| format!("{error:?}").into())
}
