//! What `kwasm-installer status` says of a node.

use std::fs;

use crate::fake::{Node, bundled};
use crate::points::{Fault, unless_killed};

const LINK: &str = "/opt/kwasm/bin/containerd-shim-wasmtime-v1";

fn installed(tree: &str) -> Node {
    let node = Node::of(tree);
    node.must_apply(&[bundled("wasmtime")]);
    node
}

fn debian() -> Node {
    installed("debian-13-containerd-1.7")
}

const DEBIAN: &str = "containerd 1.7.24~ds1 (containerd.service), /etc/containerd/config.toml of version 2\n";

#[test]
fn a_node_without_a_runtime_is_well() {
    let node = Node::of("debian-13-containerd-1.7");
    assert_eq!(node.status(&[]), (format!("{DEBIAN}no runtime of ours is on this node\n"), true));
}

#[test]
fn a_runtime_that_is_served_is_shown_with_its_handler_and_its_binary() {
    let (text, well) = debian().status(&[bundled("wasmtime")]);
    assert_eq!((text, well), (format!("{DEBIAN}wasmtime: served (handler wasmtime, {LINK})\n"), true));
}

#[test]
fn where_docker_finds_a_shim_by_its_name_the_link_is_shown() {
    let node = installed("docker-without-kubernetes");
    let (text, well) = node.status(&[bundled("wasmtime")]);
    let found = "wasmtime: found by its name, /usr/local/bin/containerd-shim-wasmtime-v1 (handler wasmtime, ";
    assert!(well && text.contains(found), "{text}");
    fs::remove_file(node.path("/usr/local/bin/containerd-shim-wasmtime-v1")).unwrap();
    let (text, well) = node.status(&[bundled("wasmtime")]);
    assert!(!well && text.contains("containerd does not find the shim of wasmtime by its name"), "{text}");
}

#[test]
fn a_link_that_was_taken_away_is_what_the_next_run_has_to_mend() {
    let node = debian();
    fs::remove_file(node.path(LINK)).unwrap();
    let (text, well) = node.status(&[bundled("wasmtime")]);
    assert!(!well && text.contains(&format!("not as it should be: the next run has to link {LINK} to ")), "{text}");
}

#[test]
fn a_run_that_was_cut_off_is_told_with_the_command_that_ends_it() {
    let node = Node::of("debian-13-containerd-1.7");
    let before = node.moment();
    let points = node.points().of(|| drop(node.apply(&[bundled("wasmtime")])));
    let at = points.iter().position(|point| point == "Call systemctl restart").unwrap();
    node.put(&before);
    node.points().strike(Some((Fault::Kill, at)));
    assert!(unless_killed(|| node.apply(&[bundled("wasmtime")])).is_none());
    node.points().strike(None);
    let (text, well) = node.status(&[]);
    assert!(!well && text.contains("an earlier run was cut off: `kwasm-installer recover` ends it"), "{text}");
}

#[test]
fn after_a_forced_removal_the_programs_that_still_run_are_named_and_all_is_well() {
    let mut node = debian();
    let shim = fs::read_link(node.path(LINK)).unwrap();
    node.process(shim.to_str().unwrap());
    node.force = true;
    node.must_apply(&[]);
    node.force = false;
    let (text, well) = node.status(&[]);
    assert!(well && text.contains("until they end, their programs stay: "), "{text}");
    node.must_apply(&[bundled("wasmtime")]);
}
