//! Every tree of `tests/nodes`: what would be done there, and that it comes back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::facts::Facts;
use crate::fake::{Node, bundled, differences};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nodes")
}

fn all() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The trees on which the runtime can be installed.
pub(crate) fn names() -> Vec<String> {
    all().into_iter().filter(|name| Facts::of(name).refused.is_none()).collect()
}

fn refusing() -> Vec<String> {
    all().into_iter().filter(|name| Facts::of(name).refused.is_some()).collect()
}

/// Trees on which somebody else had put the runtime: it goes when it is uninstalled.
pub(crate) const ADOPTED: [&str; 3] = ["k3s-kwasm-0.2", "kwasm-0.2", "runtime-class-manager"];

#[test]
fn there_are_at_least_forty_trees() {
    assert!(all().len() >= 40, "{}", all().len());
}

#[test]
fn no_tree_holds_a_link_that_a_copy_of_the_repository_could_lose() {
    for name in all() {
        let tree = Disk::of(&folder().join(&name));
        let links = tree.links();
        assert!(links.is_empty(), "{name}: name them under `links` in its node.json: {links:?}");
    }
}

#[test]
fn the_plan_for_every_tree_is_the_one_that_was_reviewed() {
    for name in all() {
        let node = Node::of(&name);
        insta::assert_snapshot!(format!("plan of {name}"), node.plan(&node.facts.runtimes()));
    }
}

#[test]
fn a_tree_that_cannot_take_it_is_left_alone_for_the_reason_it_tells() {
    for name in refusing() {
        let node = Node::of(&name);
        let before = node.tree();
        let stop = node.must_fail(&node.facts.runtimes());
        assert_eq!(Some(format!("{:?}", stop.reason)), node.facts.refused, "{name}: {stop}");
        assert_eq!(stop.exit_code(), 3, "{name}");
        assert_eq!(node.tree(), before, "{name}");
        assert_eq!(node.restarts(), 0, "{name}");
    }
}

#[test]
fn planning_changes_nothing() {
    for name in all() {
        let node = Node::of(&name);
        let before = node.tree();
        node.plan(&node.facts.runtimes());
        assert_eq!(node.tree(), before, "{name}");
    }
}

#[test]
fn installing_twice_is_installing_once() {
    for name in names() {
        let node = Node::of(&name);
        let runtimes = node.facts.runtimes();
        node.must_apply(&runtimes);
        let (after, restarts) = (node.tree(), node.restarts());
        assert_eq!(node.handlers().contains(&"wasmtime".to_owned()), node.facts.serves_cri(), "{name}");
        assert_eq!(node.must_apply(&runtimes), 0, "{name}");
        assert_eq!(differences(&node.tree(), &after), Vec::<String>::new(), "{name}");
        assert_eq!(node.restarts(), restarts, "{name}");
        assert_eq!(node.plan(&runtimes).lines().last(), Some("nothing to do"), "{name}");
    }
}

#[test]
fn uninstalling_gives_every_tree_back_to_the_byte() {
    for name in names().iter().filter(|name| !ADOPTED.contains(&name.as_str())) {
        let node = Node::of(name);
        let (before, handlers) = (node.tree(), node.handlers());
        node.must_apply(&node.facts.runtimes());
        node.must_apply(&[]);
        assert_eq!(differences(&node.tree(), &before), Vec::<String>::new(), "{name}");
        assert_eq!(node.handlers(), handlers, "{name}");
        assert_eq!(node.restarts(), node.facts.restarts, "{name}");
    }
}

#[test]
fn a_node_of_kwasm_is_adopted_without_a_restart_and_its_other_runtimes_stay() {
    let node = Node::of("kwasm-0.2");
    let config = node.config();
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    assert_eq!(node.config(), config);
    assert_eq!(node.read("/opt/kwasm/bin/containerd-shim-wasmtime-v1"), "1");
    node.must_apply(&[]);
    assert!(!node.config().contains("wasmtime"), "{}", node.config());
    assert_eq!(node.read("/opt/kwasm/bin/containerd-shim-spin-v2"), "spin of KWasm\n");
    assert_eq!(node.handlers(), ["runc", "spin"]);
}

#[test]
fn an_entry_of_runtime_class_manager_is_replaced_and_never_doubled() {
    let node = Node::of("runtime-class-manager");
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 1);
    assert_eq!(node.config().matches("runtimes.wasmtime]").count(), 1, "{}", node.config());
    assert!(!node.config().contains("/opt/rcm"), "{}", node.config());
}

#[test]
fn five_runtimes_in_one_order_cost_one_restart() {
    let node = Node::of("debian-12-containerd-1.6");
    let names = ["a", "b", "c", "d", "wasmtime"];
    names.iter().for_each(|name| node.bundle(name, "x"));
    assert_eq!(node.must_apply(&names.map(bundled)), 1);
}

#[test]
fn a_changed_shim_binary_costs_no_restart_and_its_old_folder_goes() {
    let node = Node::of("debian-13-containerd-1.7");
    node.must_apply(&[bundled("wasmtime")]);
    node.bundle("wasmtime", "2");
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    assert_eq!(node.read_link_content(), "2");
    assert_eq!(fs::read_dir(node.path("/opt/kwasm/runtimes/wasmtime")).unwrap().count(), 1);
}

#[test]
fn an_old_binary_in_use_stays_until_nobody_runs_it() {
    let node = Node::of("debian-13-containerd-1.7");
    node.must_apply(&[bundled("wasmtime")]);
    node.process(&node.linked());
    node.bundle("wasmtime", "2");
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(fs::read_dir(node.path("/opt/kwasm/runtimes/wasmtime")).unwrap().count(), 2);
    node.no_processes();
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(fs::read_dir(node.path("/opt/kwasm/runtimes/wasmtime")).unwrap().count(), 1);
}

#[test]
fn what_the_runtimes_compiled_goes_with_the_last_of_them() {
    let node = Node::of("debian-13-containerd-1.7");
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    fs::create_dir_all(node.path("/var/lib/kwasm/cache/wasmtime/empty")).unwrap();
    fs::write(node.path("/var/lib/kwasm/cache/wasmtime/module"), "native code").unwrap();
    node.must_apply(&[bundled("wasmtime")]);
    assert!(node.path("/var/lib/kwasm/cache/wasmtime/module").exists());
    node.must_apply(&[]);
    assert_eq!(differences(&before, &node.tree()), Vec::<String>::new());
}

#[test]
fn what_others_wrote_meanwhile_stays_when_ours_goes() {
    let node = Node::of("kind-1.7");
    let before = node.config();
    node.must_apply(&[bundled("wasmtime")]);
    node.edit_config(|text| {
        text.replace("use fixed sandbox", "by hand: our sandbox") + "[debug]\n  level = \"debug\"\n"
    });
    node.must_apply(&[]);
    assert_eq!(
        node.config(),
        before.replace("use fixed sandbox", "by hand: our sandbox") + "[debug]\n  level = \"debug\"\n"
    );
}

#[test]
fn the_built_in_handler_stays_where_somebody_else_needs_it_now() {
    let node = Node::of("debian-13-containerd-1.7");
    node.must_apply(&[bundled("wasmtime")]);
    node.edit_config(|text| {
        text + "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.theirs]\nruntime_type = \"x\"\n"
    });
    node.must_apply(&[]);
    assert_eq!(node.handlers(), ["runc", "theirs"]);
}

#[test]
fn a_configuration_that_something_reverted_is_written_again() {
    let node = Node::of("kind-1.7");
    let before = node.config();
    node.must_apply(&[bundled("wasmtime")]);
    node.edit_config(|_| before.clone());
    node.must_apply(&[bundled("wasmtime")]);
    assert!(node.config().contains("runtimes.wasmtime]"));
    node.must_apply(&[]);
    assert_eq!(node.config(), before);
}

#[test]
fn a_runtime_stays_when_another_goes() {
    let node = Node::of("debian-sid-containerd-2.1");
    node.bundle("spin", "s");
    node.must_apply(&[bundled("spin"), bundled("wasmtime")]);
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(node.handlers(), ["runc", "wasmtime"]);
    assert!(!node.path("/opt/kwasm/bin/containerd-shim-spin-v1").exists());
}

#[test]
fn a_runtime_stays_although_its_bundle_is_not_at_hand() {
    let node = Node::of("debian-sid-containerd-2.1");
    node.must_apply(&[bundled("wasmtime")]);
    node.empty_bundle();
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
}

impl Node {
    fn linked(&self) -> String {
        fs::read_link(self.path("/opt/kwasm/bin/containerd-shim-wasmtime-v1")).unwrap().display().to_string()
    }

    fn read_link_content(&self) -> String {
        self.read(&self.linked())
    }
}
