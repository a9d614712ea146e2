//! What others do to a node while a run is under way, or between two runs.

use std::fs;

use kwasm_api::report::NodeState;
use rustix::io::Errno;

use crate::fake::{Mood, Node, bundled};
use crate::points::{Fault, unless_killed};

const THEIRS: &str = "# theirs\n";

fn plain() -> Node {
    Node::with_config("1.7.24", "version = 2\n")
}

fn write_something(node: &Node) {
    fs::write(node.path("/etc/containerd/config.toml"), format!("{}{THEIRS}", node.config())).unwrap();
}

/// An installation that is killed at the first point whose name has this in it.
fn killed_at(node: &Node, name: &str) {
    let before = node.moment();
    let points = node.points().of(|| drop(node.apply(&[bundled("wasmtime")])));
    node.put(&before);
    let at = points.iter().position(|point| point.contains(name)).expect("such a point");
    node.points().strike(Some((Fault::Kill, at)));
    assert!(unless_killed(|| node.apply(&[bundled("wasmtime")])).is_none());
    node.points().strike(None);
}

#[test]
fn what_somebody_writes_while_a_run_is_under_way_stays_and_the_run_is_taken_back() {
    let node = plain();
    let before = node.tree();
    let (_, stop) = node.apply_while(&[bundled("wasmtime")], |line| {
        if line.starts_with("link ") {
            write_something(&node);
        }
    });
    let stop = stop.expect("a failure");
    assert_eq!(
        stop.to_string(),
        "change /etc/containerd/config.toml: somebody else has changed /etc/containerd/config.toml since it was read"
    );
    assert_eq!((stop.state, stop.remedy.as_str()), (NodeState::RolledBack, "run it again: it reads the file anew"));
    assert_eq!(node.config(), format!("version = 2\n{THEIRS}"));
    fs::write(node.path("/etc/containerd/config.toml"), "version = 2\n").unwrap();
    assert_eq!(node.tree(), before);
}

#[test]
fn what_somebody_wrote_after_a_run_was_killed_stays_when_the_next_one_is_taken_back() {
    for point in ["Link /opt/kwasm/bin", "Call systemctl restart"] {
        let node = plain();
        killed_at(&node, point);
        write_something(&node);
        let written = node.config();
        node.mood(Mood::Refuses("wasmtime"));
        let stop = node.must_fail(&[bundled("wasmtime")]);
        assert!(node.config().ends_with(THEIRS), "{point}: {stop}");
        assert_eq!(node.config(), written, "{point}");
    }
}

#[test]
fn a_handler_of_a_killed_run_is_not_missed_when_the_next_run_is_taken_back() {
    let node = plain();
    node.bundle("spin", "s");
    killed_at(&node, "Call after systemctl restart");
    node.mood(Mood::Refuses("spin"));
    let stop = node.must_fail(&[bundled("spin")]);
    assert_eq!(stop.state, NodeState::RolledBack, "{stop}");
    assert_eq!(node.config(), "version = 2\n");
}

#[test]
fn a_run_that_fails_before_it_writes_anything_goes_back_to_before_the_killed_one() {
    let node = plain();
    node.bundle("spin", "s");
    killed_at(&node, "Call systemctl restart");
    let killed = node.moment();
    let points = node.points().of(|| drop(node.apply(&[bundled("spin")])));
    node.put(&killed);
    let at = points.iter().position(|point| point.starts_with("Create /etc/containerd")).expect("a draft");
    node.points().strike(Some((Fault::Once(Errno::IO), at)));
    let stop = node.must_fail(&[bundled("spin")]);
    node.points().strike(None);
    assert_eq!((stop.state, node.config().as_str()), (NodeState::RolledBack, "version = 2\n"), "{stop}");
}
