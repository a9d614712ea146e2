//! RuntimeClasses and statuses.

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int;
use kwasm_api::wasm_node::Phase;
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

fn ours() -> RuntimeClass {
    let labels = json!({"app.kubernetes.io/managed-by": "kwasm-operator"});
    class("w", labels, json!({"nodeSelector": {"runtime.kwasm.sh/w": "ready"}}))
}

fn verified() -> World {
    world()
        .node(node("a").opted_in().advertising("w"))
        .wasm_node(wasm_node("a", &[runtime("w")]).verified())
        .runtime(wasm_runtime("w"))
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
    let theirs = class("w", json!({}), json!({"nodeSelector": {"app": "x", "runtime.kwasm.sh/w": "ready"}}));
    let world = world().node(node("a")).runtime(wasm_runtime("w")).class(theirs);
    assert_eq!(world.writes(), [r#"patch RuntimeClass w: {"nodeSelector":{"runtime.kwasm.sh/w":null}}"#]);
}

#[test]
fn overhead_and_tolerations_reach_the_runtime_class() {
    let mut wanted = wasm_runtime("w");
    wanted.spec.runtime_class = serde_json::from_value(json!({
        "name": "fast-wasm",
        "overhead": {"memory": "4Mi"},
        "tolerations": [{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi"}],
    }))
    .unwrap();
    let world = world()
        .node(node("a").opted_in().advertising("w"))
        .wasm_node(wasm_node("a", &[wanted.runtime()]).verified())
        .runtime(wanted);
    let class = world.plan().actions.into_iter().find_map(|action| match action {
        Action::ApplyRuntimeClass(class) => Some(class),
        _ => None,
    });
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
