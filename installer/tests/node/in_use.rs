//! Runtimes that pods use: what CRI is asked about them, and what follows.

use kwasm_api::Runtime;
use kwasm_api::report::NodeState;
use kwasm_api::runtime::{Bundled, RuntimeKind, Source};
use kwasm_installer::failure::Reason;
use rstest::rstest;

use crate::fake::{Mood, Node, bundled, on_host, runtime};
use crate::points::{Fault, unless_killed};
use crate::program::program;

fn node() -> Node {
    let node = Node::of("debian-13-containerd-1.7");
    node.program("/usr/bin/crun-wasm", &program("crun"));
    node
}

fn of_bundle(name: &str, bundle: &str) -> Runtime {
    runtime(name, Source::Bundled(Bundled { name: Some(bundle.into()) }))
}

fn with_handler(runtime: Runtime, handler: &str) -> Runtime {
    Runtime { handler: handler.into(), ..runtime }.revise()
}

/// Whether a run asks CRI for its pods.
fn asks(node: &Node, wanted: &[Runtime]) -> bool {
    let points = node.points().of(|| assert!(node.apply(wanted).1.is_none()));
    points.iter().any(|point| point == "Call CRI's pods")
}

#[rstest]
#[case::oci(RuntimeKind::Oci)]
#[case::shim(RuntimeKind::Shim)]
fn a_runtime_of_which_no_process_is_ours_is_not_removed_while_a_pod_runs(#[case] kind: RuntimeKind) {
    let node = node();
    node.must_apply(&[Runtime { kind, ..on_host("crun", "/usr/bin/crun-wasm") }.revise()]);
    let before = node.tree();
    node.pod("greet", "crun");
    node.pod("plain", "");
    let stop = node.must_fail(&[]);
    assert_eq!((stop.reason, stop.state), (Reason::RuntimeInUse, NodeState::Unchanged));
    assert_eq!(stop.message, "still running: default/greet (handler crun)");
    assert_eq!(node.tree(), before);
}

#[test]
fn pods_are_named_before_processes() {
    let node = node();
    node.must_apply(&[bundled("wasmtime")]);
    node.process("/opt/kwasm/runtimes/wasmtime/0123456789abcdef/containerd-shim-wasmtime-v1");
    node.pod("second", "wasmtime");
    node.pod("first", "wasmtime");
    let expected = "still running: default/first (handler wasmtime), default/second (handler wasmtime), \
                    containerd-shim (pid 4711)";
    assert_eq!(node.must_fail(&[]).message, expected);
}

#[test]
fn of_two_runtimes_with_one_bundle_the_one_with_a_pod_is_not_removed() {
    let node = node();
    let both = [of_bundle("a", "wasmtime"), of_bundle("b", "wasmtime")];
    node.must_apply(&both);
    node.pod("greet", "a");
    assert_eq!(node.must_fail(&both[1..]).message, "still running: default/greet (handler a)");
    node.must_apply(&both[..1]);
    assert_eq!(node.handlers(), ["a", "runc"]);
}

#[test]
fn a_handler_with_a_pod_is_not_renamed() {
    let node = node();
    node.must_apply(&[bundled("wasmtime")]);
    node.pod("greet", "wasmtime");
    let stop = node.must_fail(&[with_handler(bundled("wasmtime"), "wasm")]);
    assert_eq!(stop.message, "still running: default/greet (handler wasmtime)");
}

#[rstest]
#[case::another_bundle(of_bundle("wasmtime", "spin"))]
#[case::another_kind(Runtime { kind: RuntimeKind::Oci, ..on_host("wasmtime", "/usr/bin/crun-wasm") }.revise())]
#[case::another_runtime(with_handler(bundled("spin"), "wasmtime"))]
fn a_handler_with_a_pod_is_not_given_to_another_runtime(#[case] other: Runtime) {
    let node = node();
    node.bundle("spin", "s");
    node.must_apply(&[bundled("wasmtime")]);
    node.pod("greet", "wasmtime");
    let stop = node.must_fail(&[other]);
    assert_eq!(stop.message, "still running: default/greet (handler wasmtime)");
}

#[test]
fn installing_and_upgrading_ask_for_no_pods() {
    let node = node();
    node.bundle("spin", "s");
    let of_host = |path: &str| [bundled("wasmtime"), on_host("crun", path)];
    assert!(!asks(&node, &[bundled("wasmtime")]));
    assert!(!asks(&node, &[bundled("wasmtime")]));
    node.pod("greet", "wasmtime");
    node.bundle("wasmtime", "2");
    assert!(!asks(&node, &of_host("/usr/bin/crun-wasm")));
    node.program("/usr/bin/crun-wasm-2", &program("crun"));
    assert!(!asks(&node, &of_host("/usr/bin/crun-wasm-2")));
    let renamed = of_bundle("renamed", "wasmtime");
    assert!(!asks(&node, &[with_handler(renamed, "wasmtime"), on_host("crun", "/usr/bin/crun-wasm-2")]));
}

#[test]
fn a_runtime_that_nobody_uses_is_removed_after_a_look_at_the_pods() {
    let node = node();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    node.pod("plain", "");
    node.pod("theirs", "runc");
    assert!(asks(&node, &[]));
    assert_eq!(node.tree(), before);
}

#[test]
fn a_removal_by_force_asks_for_no_pods_and_goes_on() {
    let mut node = node();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    node.pod("greet", "wasmtime");
    node.force = true;
    assert!(!asks(&node, &[]));
    assert_eq!(node.tree(), before);
}

#[test]
fn where_shims_are_found_by_their_names_nobody_is_asked_for_pods() {
    let node = Node::of("docker-without-kubernetes");
    node.must_apply(&[bundled("wasmtime")]);
    assert!(!asks(&node, &[]));
}

#[test]
fn a_cri_that_does_not_list_its_pods_keeps_its_runtimes() {
    let node = node();
    node.must_apply(&[bundled("wasmtime")]);
    let before = node.tree();
    let stop = node.mood(Mood::HidesPods).must_fail(&[]);
    assert_eq!((stop.reason, stop.state), (Reason::CriNotAvailable, NodeState::Unchanged));
    assert_eq!(
        stop.message,
        "cannot find out which pods run: CRI does not answer on /run/containerd/containerd.sock: Unimplemented: unknown method ListPodSandbox"
    );
    assert_eq!(node.tree(), before);
}

#[test]
fn a_removal_that_was_cut_off_is_ended_even_if_cri_does_not_list_its_pods() {
    let node = node();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    let installed = node.moment();
    let points = node.points().of(|| drop(node.apply(&[])));
    let restart = points.iter().position(|point| point == "Call systemctl restart").unwrap();
    node.put(&installed);
    node.points().strike(Some((Fault::Kill, restart)));
    assert!(unless_killed(|| node.apply(&[])).is_none());
    node.points().strike(None);
    node.mood(Mood::HidesPods).must_apply(&[]);
    assert_eq!(node.tree(), before);
}
