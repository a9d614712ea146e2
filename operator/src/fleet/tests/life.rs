//! How runtimes come to nodes and go from them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int;
use kwasm_api::wasm_node::Phase;

use super::{Action, world};
use crate::testing::{NodeWords, RuntimeWords, at, node, runtime, wasm_node, wasm_runtime};

#[test]
fn a_node_that_opts_in_gets_the_runtime() {
    let world = world().node(node("a").opted_in()).node(node("b")).runtime(wasm_runtime("w"));
    insta::assert_snapshot!(world.writes().join("\n"), @"apply WasmNode a: [w@52f7b08249], attempt 1");
}

#[test]
fn auto_provisioning_takes_every_linux_node() {
    let world = world()
        .node(node("a"))
        .node(node("b").labelled("kubernetes.io/os", "windows"))
        .runtime(wasm_runtime("w").max_unavailable(Int(9)))
        .auto_provision();
    assert_eq!(world.granted(), ["a"]);
}

#[test]
fn a_node_selector_decides_alone() {
    let world = world()
        .node(node("a").opted_in())
        .node(node("b").labelled("pool", "wasm"))
        .runtime(wasm_runtime("w").on("pool", "wasm").max_unavailable(Int(9)));
    assert_eq!(world.granted(), ["b"]);
}

#[test]
fn no_node_gets_a_runtime_that_could_be_deleted_behind_our_back() {
    let mut unguarded = wasm_runtime("w");
    unguarded.metadata.finalizers = None;
    let world = world().node(node("a").opted_in()).runtime(unguarded);
    assert_eq!(world.writes(), ["finalizers of WasmRuntime w: [kwasm.sh/uninstall]"]);
}

#[test]
fn a_node_that_opts_out_is_emptied_and_then_forgotten() {
    let has_it = wasm_node("a", &[runtime("w")]).verified();
    let first = world().node(node("a")).wasm_node(has_it.clone()).runtime(wasm_runtime("w"));
    assert_eq!(first.writes(), ["apply WasmNode a: [], attempt 1"]);
    let removing = has_it.respecified(&[]);
    let second = world().node(node("a")).wasm_node(removing.clone()).runtime(wasm_runtime("w"));
    assert_eq!(second.writes(), Vec::<String>::new());
    let third = world().node(node("a")).wasm_node(removing.verified()).runtime(wasm_runtime("w"));
    assert_eq!(third.writes(), ["delete WasmNode a"]);
}

#[test]
fn a_deleted_runtime_leaves_the_nodes_before_its_object_goes() {
    let gone = wasm_runtime("w").deleting();
    let has_it = wasm_node("a", &[runtime("w")]).verified();
    let first = world().node(node("a").opted_in()).wasm_node(has_it.clone()).runtime(gone.clone());
    assert_eq!(first.writes(), ["apply WasmNode a: [], attempt 1"]);
    let removing = has_it.respecified(&[]);
    let second = world().node(node("a").opted_in()).wasm_node(removing.clone()).runtime(gone.clone());
    assert_eq!(second.writes(), Vec::<String>::new(), "the host may still have it");
    let third = world().node(node("a").opted_in()).wasm_node(removing.verified()).runtime(gone);
    assert_eq!(third.writes(), ["delete WasmNode a", "finalizers of WasmRuntime w: []"]);
}

#[test]
fn a_deleted_runtime_leaves_one_node_after_the_other() {
    let has_it = |name| wasm_node(name, &[runtime("w")]).verified();
    let world = world()
        .nodes([node("a"), node("b"), node("c")])
        .wasm_node(has_it("a").respecified(&[]).in_phase(Phase::Changing))
        .wasm_node(has_it("b"))
        .wasm_node(has_it("c"))
        .runtime(wasm_runtime("w").deleting().max_unavailable(Int(1)));
    assert_eq!(world.granted(), Vec::<String>::new(), "a, which loses it, is the one that may change");
}

#[test]
fn a_runtime_that_cannot_be_read_stays_where_it_is() {
    let world =
        world().node(node("a").opted_in()).wasm_node(wasm_node("a", &[runtime("w")]).verified()).unreadable("w");
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn a_runtime_that_cannot_be_read_says_so_once() {
    let world = world().unreadable("w");
    let said = world.plan().actions;
    let [Action::SetStatus { status, .. }] = said.as_slice() else { panic!("{said:?}") };
    let ready = &status.conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Unreadable"));
    assert!(ready.message.contains("unknown source"), "{}", ready.message);
    assert_eq!(world.written().plan().actions, []);
}

#[test]
fn a_deleted_runtime_that_cannot_be_read_leaves_the_nodes_before_its_object_goes() {
    let gone = || wasm_runtime("w").deleting().metadata;
    let has_it = wasm_node("a", &[runtime("w")]).verified();
    let first = world().node(node("a").opted_in()).wasm_node(has_it.clone()).unreadable_as(gone());
    assert_eq!(first.writes(), ["apply WasmNode a: [], attempt 1"]);
    let clean = has_it.respecified(&[]).verified();
    let last = world().node(node("a").opted_in()).wasm_node(clean).unreadable_as(gone());
    assert_eq!(last.writes(), ["delete WasmNode a", "finalizers of WasmRuntime w: []"]);
}

#[test]
fn of_two_runtimes_with_one_handler_the_older_has_it() {
    let mut younger = wasm_runtime("a-younger");
    younger.spec.handler = Some("w".to_owned());
    younger.metadata.creation_timestamp = Some(at(2_000_000_000));
    let world = world().node(node("a").opted_in()).runtime(younger).runtime(wasm_runtime("w"));
    insta::assert_snapshot!(world.plan().actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn another_node_of_the_same_name_starts_from_nothing() {
    let mut replaced = node("a").opted_in();
    replaced.metadata.uid = Some("another".to_owned());
    let old = wasm_node("a", &[runtime("w")]).verified();
    let world = world().node(replaced).wasm_node(old).runtime(wasm_runtime("w"));
    assert_eq!(world.writes(), ["delete WasmNode a"]);
}

#[test]
fn a_label_that_nothing_stands_behind_is_taken_away() {
    let stray = node("a").advertising("w").labelled("kwasm.sh/kwasm-provisioned", "a");
    let world = world().node(stray).runtime(wasm_runtime("w"));
    assert_eq!(world.writes(), ["clear labels of a: runtime.kwasm.sh/w"]);
}

#[test]
fn a_stray_label_goes_although_the_node_waits_for_its_turn() {
    let stray = node("b").opted_in().advertising("w");
    let world = world()
        .node(node("a").opted_in())
        .node(stray)
        .wasm_node(wasm_node("a", &[runtime("w")]).in_phase(Phase::Changing))
        .runtime(wasm_runtime("w").max_unavailable(Int(1)));
    assert_eq!(world.writes(), ["clear labels of b: runtime.kwasm.sh/w"]);
}

#[test]
fn a_world_as_it_should_be_needs_no_write() {
    let world = world()
        .node(node("a").opted_in().advertising("w"))
        .node(node("b"))
        .wasm_node(wasm_node("a", &[runtime("w")]).verified())
        .runtime(wasm_runtime("w"))
        .written()
        .written();
    assert_eq!(world.plan().actions, []);
}
