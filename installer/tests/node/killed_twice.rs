//! Two runs that are killed, one after the other, on their way to different ends: the third one puts all right.

use std::collections::{HashMap, HashSet};

use kwasm_api::Runtime;

use crate::fake::{Moment, Node, bundled, differences};
use crate::faults::stride;
use crate::points::{Fault, unless_killed};

/// A tree for each form of configuration.
const TREES: [&str; 7] = [
    "debian-12-containerd-1.6",
    "debian-13-containerd-1.7",
    "config-default-2.1",
    "k3s-1.32",
    "k3s-1.35-drop-ins",
    "microk8s-1.32",
    "docker-without-kubernetes",
];

/// How many points there are for each at which a run is killed: all of them, twice, would take hours.
fn every() -> usize {
    if stride(2) == 1 { 2 } else { 5 }
}

/// What a run that is killed at every so many point leaves behind, whatever is the same once.
fn left_by(node: &Node, start: &Moment, wanted: &[Runtime]) -> Vec<Moment> {
    node.put(start);
    let points = node.points().of(|| drop(node.apply(wanted)));
    // Of what happens to binaries, all is known from one run; what two runs can disagree about is the rest.
    let telling = (0..points.len()).filter(|at| !points[*at].contains("/runtimes/"));
    let mut known = HashSet::new();
    let killed = telling.step_by(every()).map(|at| {
        node.put(start);
        node.points().strike(Some((Fault::Kill, at)));
        assert!(unless_killed(|| node.apply(wanted)).is_none(), "it goes on after point {at}");
        node.points().strike(None);
        node.moment()
    });
    killed.filter(|moment| known.insert(moment.clone())).collect()
}

/// Brings a node to these runtimes and says what is not as it should be then.
fn ends_at(node: &Node, start: &Moment, wanted: &[Runtime], meant: &Moment) -> Result<(), String> {
    node.put(start);
    node.power_cut().map_err(|error| format!("the daemon does not start: {error}"))?;
    node.has_programs()?;
    if let (_, Some(stop)) = node.apply(wanted) {
        return Err(stop.to_string());
    }
    node.has_programs()?;
    let now = node.moment();
    let differences = differences(&now.disk.shown(), &meant.disk.shown());
    if differences.is_empty() && now.loaded == meant.loaded { Ok(()) } else { Err(differences.join("\n")) }
}

fn reach(node: &Node, start: &Moment, wanted: &[Runtime]) -> Moment {
    node.put(start);
    node.must_apply(wanted);
    node.moment()
}

/// Follows all that is left, of every so many one; gives how much that was.
fn follow(tree: &str) -> usize {
    let node = Node::of(tree);
    node.bundle("spin", "s");
    let (one, other) = (vec![bundled("wasmtime")], vec![bundled("spin")]);
    let both = vec![bundled("wasmtime"), bundled("spin")];
    let before = node.moment();
    let meant: HashMap<Vec<String>, Moment> =
        [&[][..], &one, &other, &both].map(|wanted| (names(wanted), reach(&node, &before, wanted))).into();
    let meant = |wanted: &[Runtime]| &meant[&names(wanted)];
    let roads: [(&[Runtime], &[Runtime], &[Runtime]); 6] = [
        (&[], &one, &[]),
        (&[], &one, &other),
        (&[], &one, &both),
        (&one, &both, &[]),
        (&one, &[], &other),
        (&both, &other, &one),
    ];
    let mut followed = 0;
    for (at, first, second) in roads {
        let once = left_by(&node, meant(at), first);
        let twice: HashSet<Moment> = once.iter().flat_map(|left| left_by(&node, left, second)).collect();
        for left in twice.iter().step_by(every()) {
            for end in [&[][..], first, second] {
                let ended = ends_at(&node, left, end, meant(end));
                let (at, first, second, end) = (names(at), names(first), names(second), names(end));
                assert_eq!(
                    ended,
                    Ok(()),
                    "{tree}: {at:?}, killed on the way to {first:?} and {second:?}, then {end:?}"
                );
                followed += 1;
            }
        }
    }
    followed
}

fn names(runtimes: &[Runtime]) -> Vec<String> {
    runtimes.iter().map(|runtime| runtime.name.clone()).collect()
}

#[test]
fn after_two_runs_that_were_killed_on_the_way_to_different_ends_the_next_one_ends_where_it_should() {
    for tree in TREES {
        let followed = follow(tree);
        println!("{tree}: {followed} third runs");
        assert!(followed > 0);
    }
}
