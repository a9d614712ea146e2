//! The installer by hand on live nodes: one with each version of containerd, with pods running.

mod by_hand;
mod command_line;
mod faults;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use k8s_openapi::api::node::v1::RuntimeClass;
use kwasm_e2e::road::{Road, on_cluster};
use kwasm_e2e::site::Site;
use kwasm_test_cluster::ContainerdVersion;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

/// A test that every node passes.
type OnSite = fn(&Site<'_>) -> Result<()>;

/// Each node has one test at a time.
type Turns = Arc<[Mutex<()>; ContainerdVersion::ALL.len()]>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    arguments.test_threads = Some(ContainerdVersion::ALL.len());
    on_cluster(
        || Road::up("by-hand", &ContainerdVersion::ALL).and_then(with_class),
        |road| libtest_mimic::run(&arguments, trials(Some(road))).has_failed(),
    )
}

/// Nobody else publishes the handler here: the operator is not installed.
fn with_class(road: Road) -> Result<Road> {
    let class = json!({"metadata": {"name": "wasmtime"}, "handler": "wasmtime"});
    match road.kube.create(&road.kube.all::<RuntimeClass>(), &serde_json::from_value(class)?) {
        Ok(_) => Ok(road),
        Err(error) => {
            road.down(true)?;
            Err(error)
        }
    }
}

fn trials(road: Option<&Arc<Road>>) -> Vec<Trial> {
    let turns = Turns::default();
    let on_each = |(name, test): &(&'static str, OnSite)| {
        let nodes = ContainerdVersion::ALL.into_iter().enumerate();
        nodes.map(|(node, version)| trial(road, &turns, name, node, version, *test)).collect::<Vec<_>>()
    };
    by_hand::TESTS.iter().chain(faults::TESTS).chain(command_line::TESTS).flat_map(on_each).collect()
}

fn trial(
    road: Option<&Arc<Road>>,
    turns: &Turns,
    name: &str,
    node: usize,
    version: ContainerdVersion,
    test: OnSite,
) -> Trial {
    let (road, turns) = (road.cloned(), Arc::clone(turns));
    Trial::test(format!("{name} [containerd {version}]"), move || {
        let _turn = turns[node].lock().unwrap_or_else(PoisonError::into_inner);
        let road = road.as_ref().ok_or("there is no cluster")?;
        let run = || road.not_interrupted().and_then(|()| test(&road.site(version)?));
        run().map_err(|error| Failed::from(format!("{error:?}")))
    })
}
