//! RuntimeClasses and statuses.

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int;
use kwasm_api::wasm_node::Phase;
use kwasm_api::wasm_runtime::WasmRuntime;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Action, World, world};
use crate::testing::{NodeWords, RuntimeWords, node, runtime, wasm_node, wasm_runtime};

fn class(handler: &str, labels: Value, scheduling: Value) -> RuntimeClass {
    serde_json::from_value(json!({
        "metadata": {"name": "w", "uid": "uid-class", "labels": labels},
        "handler": handler,
        "scheduling": scheduling,
    }))
    .unwrap()
}

/// The RuntimeClass as the operator makes it for a WasmRuntime.
fn made_for(runtime: &WasmRuntime) -> RuntimeClass {
    let actions = verified_with(runtime.clone()).plan().actions;
    let made = actions.into_iter().find_map(|action| match action {
        Action::ApplyRuntimeClass(class) => Some(*class),
        _ => None,
    });
    let mut class = made.unwrap();
    class.metadata.uid = Some("uid-class".to_owned());
    class
}

fn ours() -> RuntimeClass {
    made_for(&wasm_runtime("w"))
}

fn verified() -> World {
    verified_with(wasm_runtime("w"))
}

/// One node, and what a WasmRuntime asks for is verified there.
fn verified_with(runtime: WasmRuntime) -> World {
    world()
        .node(node("a").opted_in().advertising("w"))
        .wasm_node(wasm_node("a", &[runtime.runtime()]).verified())
        .runtime(runtime)
}

fn with_class(value: Value) -> WasmRuntime {
    let mut runtime = wasm_runtime("w");
    runtime.spec.runtime_class = serde_json::from_value(value).unwrap();
    runtime
}

fn with_handler(handler: &str) -> WasmRuntime {
    let mut runtime = wasm_runtime("w");
    runtime.spec.handler = Some(handler.to_owned());
    runtime
}

#[test]
fn the_runtime_class_comes_with_the_first_verified_node() {
    assert_eq!(verified().writes(), ["apply RuntimeClass w with handler w"]);
}

#[test]
fn a_node_that_is_not_advertised_publishes_nothing() {
    let world = world()
        .node(node("a").opted_in())
        .wasm_node(wasm_node("a", &[runtime("w")]).in_phase(Phase::Changing))
        .runtime(wasm_runtime("w"));
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn a_runtime_class_of_ours_is_left_as_it_is() {
    assert_eq!(verified().class(ours()).writes(), Vec::<String>::new());
}

#[test]
fn a_runtime_class_of_somebody_else_only_learns_where_its_pods_may_run() {
    let theirs = class("w", json!({}), json!({"nodeSelector": {"app": "wasmrun"}}));
    assert_eq!(
        verified().class(theirs).writes(),
        [r#"patch RuntimeClass w: {"nodeSelector":{"runtime.kwasm.sh/w":"ready"}}"#]
    );
}

#[test]
fn a_runtime_class_with_another_handler_is_left_alone_and_named() {
    let world = verified().class(class("other", json!({}), Value::Null));
    assert_eq!(world.writes(), Vec::<String>::new());
    insta::assert_snapshot!(conditions(&world, "w"));
}

#[test]
fn our_runtime_class_goes_with_the_last_node_and_not_before() {
    let leaving = wasm_node("a", &[runtime("w")]).verified().respecified(&[]);
    let before = world().node(node("a")).wasm_node(leaving.clone()).runtime(wasm_runtime("w")).class(ours());
    assert_eq!(before.writes(), Vec::<String>::new());
    let after = world().node(node("a")).wasm_node(leaving.verified()).runtime(wasm_runtime("w")).class(ours());
    assert_eq!(after.writes(), ["delete WasmNode a", "delete RuntimeClass w"]);
}

#[test]
fn a_runtime_class_of_somebody_else_is_given_back_with_the_last_node() {
    let world = world().node(node("a")).runtime(wasm_runtime("w")).class(adopted());
    assert_eq!(world.writes(), [r#"patch RuntimeClass w: {"nodeSelector":{"runtime.kwasm.sh/w":null}}"#]);
}

/// Somebody else's, that the operator sends to verified nodes.
fn adopted() -> RuntimeClass {
    let mut theirs = class("w", json!({}), json!({"nodeSelector": {"app": "x", "runtime.kwasm.sh/w": "ready"}}));
    theirs.metadata.annotations = Some([("kwasm.sh/adopted-for".to_owned(), "w/w".to_owned())].into());
    theirs
}

#[test]
fn a_selector_that_somebody_else_wrote_stays_theirs() {
    let mut theirs = adopted();
    theirs.metadata.annotations = None;
    let world = world().node(node("a")).runtime(wasm_runtime("w")).class(theirs);
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn a_quantity_that_the_api_server_writes_in_its_own_way_is_no_difference() {
    let wanted = with_class(json!({"overhead": {"cpu": "0.5", "memory": "4Mi"}}));
    let mut stored = made_for(&wanted);
    stored.overhead = serde_json::from_value(json!({"podFixed": {"cpu": "500m", "memory": "4Mi"}})).unwrap();
    assert_eq!(verified_with(wanted).class(stored).writes(), Vec::<String>::new());
}

#[test]
fn another_overhead_is_applied() {
    let stored = made_for(&with_class(json!({"overhead": {"memory": "4Mi"}})));
    for overhead in [json!({"memory": "8Mi"}), json!({})] {
        let world = verified_with(with_class(json!({"overhead": overhead}))).class(stored.clone());
        assert_eq!(world.writes(), ["apply RuntimeClass w with handler w"], "{overhead}");
    }
}

#[rstest]
#[case::somebody_added_to_it(json!({"nodeSelector": {"runtime.kwasm.sh/w": "ready", "pool": "x"}}), vec![])]
#[case::somebody_let_its_pods_go_anywhere(json!({"nodeSelector": {"pool": "x"}}), vec!["apply RuntimeClass w with handler w"])]
fn our_runtime_class_is_mended_where_its_pods_could_go_astray(#[case] scheduling: Value, #[case] writes: Vec<&str>) {
    let mut edited = ours();
    edited.scheduling = serde_json::from_value(scheduling).unwrap();
    assert_eq!(verified().class(edited).writes(), writes);
}

#[test]
fn another_handler_takes_the_place_of_the_old_once_a_node_serves_it() {
    let still_old = world()
        .node(node("a").opted_in().advertising("w"))
        .wasm_node(wasm_node("a", &[runtime("w")]).verified())
        .runtime(with_handler("new").paused())
        .class(ours());
    assert_eq!(still_old.writes(), Vec::<String>::new());
    let served = verified_with(with_handler("new")).class(ours());
    assert_eq!(served.writes(), ["delete RuntimeClass w"]);
    assert_eq!(served.written().writes(), ["apply RuntimeClass w with handler new"]);
}

#[test]
fn our_runtime_class_of_the_old_name_goes() {
    let world = verified_with(with_class(json!({"name": "fast"}))).class(ours());
    assert_eq!(world.writes(), ["apply RuntimeClass fast with handler w", "delete RuntimeClass w"]);
}

#[test]
fn a_runtime_class_of_somebody_else_is_given_back_when_another_name_is_chosen() {
    let world = verified_with(with_class(json!({"name": "fast"}))).class(adopted());
    assert_eq!(
        world.writes(),
        [
            "apply RuntimeClass fast with handler w",
            r#"patch RuntimeClass w: {"nodeSelector":{"runtime.kwasm.sh/w":null}}"#
        ]
    );
}

#[test]
fn a_copy_that_somebody_made_of_our_runtime_class_is_theirs() {
    let mut copy = ours();
    copy.metadata.name = Some("copy".to_owned());
    assert_eq!(verified().class(ours()).class(copy).writes(), Vec::<String>::new());
}

#[test]
fn the_runtime_class_of_a_refused_runtime_goes_with_the_last_node_that_keeps_it() {
    let refused = || wasm_runtime("w").max_unavailable(Int(-1));
    let kept = verified_with(refused()).class(ours());
    assert_eq!(kept.writes(), Vec::<String>::new());
    let left = world().node(node("a").opted_in()).runtime(refused()).class(ours());
    assert_eq!(left.writes(), ["delete RuntimeClass w"]);
}

#[test]
fn a_runtime_class_goes_although_its_runtime_is_gone() {
    assert_eq!(world().node(node("a")).class(ours()).writes(), ["delete RuntimeClass w"]);
}

#[test]
fn a_runtime_class_that_another_runtime_left_is_taken_over_by_deleting_it() {
    let mut other = wasm_runtime("v");
    other.spec.runtime_class = serde_json::from_value(json!({"name": "w"})).unwrap();
    let world = world()
        .node(node("a").opted_in().advertising("v").advertising("w"))
        .wasm_node(wasm_node("a", &[runtime("v"), runtime("w")]).verified())
        .runtime(other)
        .runtime(with_class(json!({"name": "fast"})))
        .class(ours());
    assert_eq!(world.writes(), ["apply RuntimeClass fast with handler w", "delete RuntimeClass w"]);
    assert_eq!(world.written().writes(), ["apply RuntimeClass w with handler v"]);
}

#[test]
fn a_runtime_is_not_ready_while_its_runtime_class_is_missing() {
    let status = conditions(&verified(), "w");
    assert!(status.contains("Ready=False RuntimeClassNotPublished"), "{status}");
    let status = conditions(&verified().class(ours()), "w");
    assert!(status.contains("Ready=True Verified"), "{status}");
}

#[test]
fn overhead_and_tolerations_reach_the_runtime_class() {
    let mut class = made_for(&with_class(json!({
        "name": "fast-wasm",
        "overhead": {"memory": "4Mi"},
        "tolerations": [{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi"}],
    })));
    class.metadata.uid = None;
    insta::assert_snapshot!(serde_json::to_string_pretty(&class).unwrap());
}

#[test]
fn a_status_says_how_many_nodes_are_where_and_names_those_that_failed() {
    let nodes = ["a", "b", "c", "d", "e", "f"];
    let world = world()
        .nodes(nodes.map(|name| node(name).opted_in()))
        .node(node("g").opted_in().advertising("w"))
        .wasm_node(wasm_node("a", &[runtime("w")]).failed(200))
        .wasm_node(wasm_node("b", &[runtime("w")]).failed(200))
        .wasm_node(wasm_node("c", &[runtime("w")]).failed(200))
        .wasm_node(wasm_node("d", &[runtime("w")]).attempt(2).in_phase(Phase::Changing))
        .wasm_node(wasm_node("e", &[runtime("w")]).in_phase(Phase::Changing))
        .wasm_node(wasm_node("g", &[runtime("w")]).verified())
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    insta::assert_snapshot!(conditions(&world, "w"));
}

#[test]
fn a_status_without_nodes_says_how_to_choose_some() {
    insta::assert_snapshot!(conditions(&world().node(node("a")).runtime(wasm_runtime("w")), "w"));
}

fn conditions(world: &World, name: &str) -> String {
    let status = world.plan().actions.into_iter().find_map(|action| match action {
        Action::SetStatus { runtime, status, .. } if runtime == name => Some(status),
        _ => None,
    });
    let status = status.unwrap();
    let lines = status.conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    format!("{:?}\n{}", status.nodes, lines.collect::<Vec<_>>().join("\n"))
}
