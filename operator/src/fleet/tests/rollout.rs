//! Which nodes change when.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::{Int, String as Text};
use kube::core::DeserializeGuard;
use kwasm_api::wasm_node::{HostIdentity, Phase, WasmNode};
use kwasm_api::wasm_runtime::WasmRuntime;
use rstest::rstest;

use super::{World, world};
use crate::observed::Node;
use crate::testing::{
    NodeWords, RuntimeWords, host, installed_anew, node, runtime, started_again, wasm_node, wasm_runtime,
};

fn fresh(names: &[&str]) -> Vec<Node> {
    names.iter().map(|name| node(name).opted_in()).collect()
}

#[rstest]
#[case::a_number(Int(2), vec!["a", "b"])]
#[case::a_percentage_rounded_up(Text("26%".into()), vec!["a", "b"])]
#[case::at_least_one(Text("0%".into()), vec!["a"])]
#[case::a_number_as_text(Text("3".into()), vec!["a", "b", "c"])]
#[case::everything(Text("100%".into()), vec!["a", "b", "c", "d"])]
fn max_unavailable_nodes_change_at_a_time(
    #[case] max: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    #[case] expected: Vec<&str>,
) {
    let world = world().nodes(fresh(&["a", "b", "c", "d"])).runtime(wasm_runtime("w").max_unavailable(max));
    assert_eq!(world.granted(), expected);
}

#[rstest]
#[case::on_its_way(wasm_node("a", &[runtime("w")]).in_phase(Phase::Changing), vec![])]
#[case::not_seen_by_the_node_controller_yet(wasm_node("a", &[runtime("w")]), vec![])]
#[case::waiting_for_the_kubelet(wasm_node("a", &[runtime("w")]).in_phase(Phase::Verifying), vec![])]
#[case::verified(wasm_node("a", &[runtime("w")]).verified(), vec!["b"])]
#[case::failed_for_now(wasm_node("a", &[runtime("w")]).failed(200), vec!["b"])]
fn the_next_node_waits_while_the_first_is_changing(#[case] first: WasmNode, #[case] expected: Vec<&str>) {
    let world = world().nodes(fresh(&["a", "b"])).wasm_node(first).runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), expected);
}

#[test]
fn nodes_lose_a_runtime_whose_object_is_gone_one_after_the_other() {
    let has_it = |name| wasm_node(name, &[runtime("w")]).verified();
    let world = world().nodes([node("a"), node("b")]).wasm_node(has_it("a")).wasm_node(has_it("b"));
    assert_eq!(world.granted(), ["a"]);
    assert_eq!(world.written().granted(), Vec::<String>::new());
}

#[test]
fn a_node_that_changes_for_one_runtime_counts_for_every_runtime_it_has() {
    let both = [runtime("v"), runtime("w")];
    let world = world()
        .nodes(fresh(&["a", "b"]))
        .wasm_node(wasm_node("a", &both).in_phase(Phase::Changing))
        .wasm_node(wasm_node("b", &both).verified())
        .runtime(wasm_runtime("v").changed().max_unavailable(Int(2)))
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), ["a"], "a is changing already; b would be the second of two w nodes");
}

#[test]
fn a_paused_runtime_starts_nowhere_and_stays_where_it_is() {
    let old = runtime("w");
    let world = world()
        .nodes(fresh(&["a", "b"]))
        .wasm_node(wasm_node("a", &[old]).verified())
        .runtime(wasm_runtime("w").changed().paused().max_unavailable(Int(9)));
    assert_eq!(world.granted(), Vec::<String>::new());
}

#[test]
fn a_node_whose_kubelet_does_not_answer_uses_up_no_budget() {
    let world = world()
        .node(node("a").opted_in().not_ready())
        .node(node("b").opted_in())
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), ["b"]);
}

#[test]
fn a_node_that_cannot_be_written_takes_nobody_s_turn() {
    let world = world().nodes(fresh(&["a", "b"])).runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), ["a"]);
    assert_eq!(world.put_off("a").granted(), ["b"]);
}

fn two_failed(max_failures: i32) -> World {
    let mut w = wasm_runtime("w").max_unavailable(Int(1));
    w.spec.rollout.max_failures = max_failures;
    world()
        .nodes(fresh(&["a", "b", "c"]))
        .wasm_node(wasm_node("a", &[runtime("w")]).failed(200))
        .wasm_node(wasm_node("b", &[runtime("w")]).failed(300))
        .runtime(w)
}

#[test]
fn a_rollout_stops_by_itself_when_more_nodes_failed_than_may() {
    assert_eq!(two_failed(1).granted(), Vec::<String>::new());
    assert_eq!(two_failed(2).granted(), ["c"]);
}

#[test]
fn a_stopped_rollout_stays_stopped_while_a_failed_node_is_tried_again() {
    let mut world = two_failed(1).at(250);
    let roomy = world.take_runtime("w").max_unavailable(Int(9));
    let world = world.runtime(roomy).written();
    assert_eq!(attempts(&world), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(world.granted(), Vec::<String>::new());
}

#[test]
fn a_changed_spec_goes_to_failed_nodes_at_once() {
    let mut world = two_failed(1);
    let mut changed = world.take_runtime("w").changed().max_unavailable(Int(3));
    changed.metadata.generation = Some(2);
    assert_eq!(world.runtime(changed).granted(), ["a", "b", "c"]);
}

#[test]
fn a_failed_node_is_tried_again_when_its_time_has_come() {
    let world = two_failed(9).at(199);
    assert_eq!(world.granted(), ["c"]);
    assert_eq!(world.plan().again_at, Some(crate::testing::at(200)));
    let world = two_failed(9).at(200).written();
    let attempts: Vec<_> = attempts(&world);
    assert_eq!(attempts, [("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)], "new nodes go first");
}

fn attempts(world: &World) -> Vec<(String, i32)> {
    let nodes = world.snapshot.wasm_nodes.iter().map(|object| object.0.as_ref().unwrap());
    let mut attempts: Vec<_> = nodes.map(|n| (n.metadata.name.clone().unwrap(), n.spec.attempt)).collect();
    attempts.sort();
    attempts
}

#[test]
fn a_new_installer_is_rolled_out_like_any_change() {
    let mut world = world()
        .nodes(fresh(&["a", "b"]))
        .wasm_node(wasm_node("a", &[runtime("w")]).verified())
        .wasm_node(wasm_node("b", &[runtime("w")]).verified())
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), Vec::<String>::new());
    world.policy.installer = "installer:2".to_owned();
    assert_eq!(world.granted(), ["a"]);
}

#[test]
fn a_corrected_installer_goes_to_the_failed_nodes_of_a_stopped_rollout() {
    let mut world = two_failed(1);
    assert_eq!(world.granted(), Vec::<String>::new());
    world.policy.installer = "installer:corrected".to_owned();
    assert_eq!(installers(&world), ["a: installer:corrected, attempt 1"]);
}

#[test]
fn a_failed_removal_is_tried_again_with_the_corrected_installer() {
    let failed = wasm_node("a", &[runtime("w")]).verified().respecified(&[]).failed(200);
    let mut world = world().node(node("a")).wasm_node(failed).runtime(wasm_runtime("w"));
    assert_eq!(installers(&world), Vec::<String>::new());
    world.policy.installer = "installer:corrected".to_owned();
    assert_eq!(installers(&world), ["a: installer:corrected, attempt 1"]);
}

#[test]
fn a_paused_runtime_s_failed_node_is_tried_again_with_the_installer_of_now() {
    let mut world = world()
        .node(node("a").opted_in())
        .wasm_node(wasm_node("a", &[runtime("w")]).failed(50))
        .runtime(wasm_runtime("w").paused());
    assert_eq!(installers(&world), ["a: installer:1, attempt 2"]);
    world.policy.installer = "installer:corrected".to_owned();
    assert_eq!(installers(&world), ["a: installer:corrected, attempt 1"]);
}

#[test]
fn failures_at_an_order_that_is_no_longer_wanted_stop_nothing() {
    let both = [runtime("v"), runtime("w")];
    let mut w = wasm_runtime("w").max_unavailable(Int(9));
    w.spec.rollout.max_failures = 1;
    let world = world()
        .nodes(fresh(&["a", "b", "c"]))
        .wasm_node(wasm_node("a", &both).failed(200))
        .wasm_node(wasm_node("b", &both).failed(300))
        .runtime(wasm_runtime("v").changed().max_unavailable(Int(9)))
        .runtime(w)
        .written();
    let orders = world.snapshot.wasm_nodes.iter().map(|object| object.0.as_ref().unwrap().spec.runtimes.len());
    assert_eq!(orders.collect::<Vec<_>>(), [2, 2, 2], "c gets w too");
}

/// What the nodes that get a new spec are told about how.
fn installers(world: &World) -> Vec<String> {
    let actions = world.plan().actions.into_iter();
    let specs = actions.filter_map(|action| match action {
        super::Action::ApplyWasmNode { node, spec } => Some((node, spec)),
        _ => None,
    });
    specs.map(|(node, spec)| format!("{node}: {}, attempt {}", spec.installer, spec.attempt)).collect()
}

#[rstest]
#[case::started_again(started_again())]
#[case::installed_anew(installed_anew())]
#[case::with_another_container_runtime(HostIdentity { container_runtime_version: "containerd://2.0.0".into(), ..host() })]
fn a_host_that_is_not_as_it_was_is_looked_at_again_in_its_turn(#[case] now: HostIdentity) {
    let verified = |name| wasm_node(name, &[runtime("w")]).made_for(&host()).verified();
    let world = world()
        .nodes(["a", "b"].map(|name| node(name).opted_in().on_host(&now)))
        .node(node("c").opted_in().on_host(&host()))
        .wasm_node(verified("a"))
        .wasm_node(verified("b"))
        .wasm_node(verified("c"))
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.granted(), ["a"]);
    assert_eq!(world.written().granted(), Vec::<String>::new());
}

#[test]
fn a_host_that_was_looked_at_again_is_left_in_peace() {
    let verified = wasm_node("a", &[runtime("w")]).made_for(&host()).verified();
    let mut world = world()
        .node(node("a").opted_in().on_host(&started_again()))
        .wasm_node(verified)
        .runtime(wasm_runtime("w"))
        .written();
    let again = world.snapshot.wasm_nodes.remove(0).0.clone().unwrap();
    assert_eq!(again.spec.attempt, 1, "it is no failure");
    assert_eq!(world.wasm_node(again.verified()).granted(), Vec::<String>::new());
}

#[test]
fn a_paused_runtime_s_host_is_not_looked_at_again() {
    let world = world()
        .node(node("a").opted_in().on_host(&started_again()))
        .wasm_node(wasm_node("a", &[runtime("w")]).made_for(&host()).verified())
        .runtime(wasm_runtime("w").paused());
    assert_eq!(world.granted(), Vec::<String>::new());
}

/// Plays the node controller, slow and unlucky as `dice` falls: what changes may end, what is verified may be lost.
fn step(wasm_node: &WasmNode, dice: u64) -> WasmNode {
    let this = wasm_node.clone();
    let settled = this.status.as_ref().filter(|status| status.observed_generation == this.metadata.generation);
    match (settled.and_then(|status| status.phase), dice % 4) {
        (Some(Phase::Failed), _) | (Some(Phase::Ready), 1..) => this,
        (Some(Phase::Ready), _) => this.failed(0),
        (_, 0) => this,
        (_, 1) => this.in_phase(Phase::Changing),
        (_, 2) => this.failed(i64::try_from(dice % 50).unwrap()),
        _ => this.verified(),
    }
}

/// A small generator of numbers (SplitMix64): the same for the same seed.
fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// How many nodes that have, get or lose each runtime are changing.
fn changing(world: &World) -> BTreeMap<String, usize> {
    let fleet = world.fleet();
    let mut counts = BTreeMap::new();
    for member in fleet.members.iter().filter(|member| member.progress.is_changing()) {
        for name in member.concerns() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn no_history_ever_breaks_the_budget() {
    for seed in 0..40 {
        let mut dice = numbers(seed);
        let budgets: BTreeMap<&str, usize> = BTreeMap::from([("v", 1), ("w", 3)]);
        let names: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
        let mut world = world().nodes(names.iter().map(|name| node(name).opted_in()));
        for (name, max) in &budgets {
            let mut runtime = wasm_runtime(name).max_unavailable(Int(i32::try_from(*max).unwrap()));
            runtime.spec.rollout.max_failures = 9;
            world = world.runtime(runtime);
        }
        for moment in 0..40 {
            world = play(world.at(moment), &mut dice);
            // Somebody who opts in a node that is changing already is not held up by a budget.
            let before = changing(&world);
            world = world.written();
            for (name, count) in changing(&world) {
                let allowed = budgets[name.as_str()].max(before.get(&name).copied().unwrap_or(0));
                assert!(count <= allowed, "seed {seed}, moment {moment}: {count} nodes change for {name}");
            }
        }
    }
}

/// One turn of the world outside: nodes get on, a user changes a runtime, a node's mind changes.
fn play(mut world: World, dice: &mut impl FnMut() -> u64) -> World {
    let nodes: Vec<_> = world.snapshot.wasm_nodes.iter().map(|object| object.0.clone().unwrap()).collect();
    world.snapshot.wasm_nodes = nodes.iter().map(|node| Arc::new(DeserializeGuard(Ok(step(node, dice()))))).collect();
    if dice().is_multiple_of(6) {
        let changed: WasmRuntime = world.take_runtime("w").changed();
        world = world.runtime(changed);
    }
    if dice().is_multiple_of(3) {
        let at = usize::try_from(dice() % 8).unwrap();
        let mut other = world.snapshot.nodes[at].as_ref().clone();
        other.opted_in = !other.opted_in;
        world.snapshot.nodes[at] = Arc::new(other);
    }
    world
}
