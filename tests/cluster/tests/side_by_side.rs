//! Clusters do not get in each other's way.

mod support;

use std::process::ExitStatus;

use kwasm_test_cluster::{Cluster, ContainerdVersion, Session};
use support::name;
use support::snapshot::Snapshot;

#[test]
fn two_clusters_made_at_once_work_and_removing_one_leaves_the_other() {
    let names = [name("left"), name("right")];
    let before = names.clone().map(|name| Snapshot::of(&name));
    let [left, right] = names
        .clone()
        .map(|name| std::thread::spawn(move || Cluster::up(&name, &[ContainerdVersion::V2_1], &Session::to_stderr())));
    let left = left.join().expect("a thread").expect("a cluster");
    let right = right.join().expect("a thread").expect("a cluster");
    assert_ne!(left.machine_address(), right.machine_address());
    let nodes = |cluster: &Cluster| -> (ExitStatus, String) {
        let output = cluster.kubectl(&["get", "nodes", "-o", "name"]).expect("kubectl");
        (output.status, String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(nodes(&left).1, format!("node/{}-containerd-2-1", names[0]));
    assert_eq!(nodes(&right).1, format!("node/{}-containerd-2-1", names[1]));
    assert!(Cluster::down(&names[0], &Session::to_stderr()).expect("down"));
    before[0].assert_restored(&names[0]);
    assert!(nodes(&right).0.success());
    assert!(right.node("2.1").expect("a node").run(&["true"]).is_ok());
    assert!(Cluster::down(&names[1], &Session::to_stderr()).expect("down"));
    before[1].assert_restored(&names[1]);
}
