//! However a cluster ends, nothing of it stays on the machine.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read as _;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwasm_test_cluster::{Cluster, ClusterName, ContainerdVersion, Session};
use support::snapshot::Snapshot;
use support::{cluster, eventually, name};

/// The lines that a cluster of one node writes down while it is made.
const LEDGER_LINES: usize = 12;
const UP: [&str; 3] = ["up", "--nodes", "2.1"];
const LIMIT: Duration = Duration::from_secs(120);

/// The tests compare the whole machine: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has everything a cluster is made of in the cache, which is not the cluster's to remove.
fn with_pieces() {
    let session = Session::to_stderr();
    kwasm_test_cluster::pieces::prepare(&ContainerdVersion::ALL, &session).expect("pieces");
}

/// Waits until so many lines are in the ledger, or the command has ended.
fn wait_for_lines(name: &ClusterName, lines: usize, child: &mut Child) {
    let root = std::env::var("KWASM_CLUSTERS").unwrap_or_else(|_| "/var/lib/kwasm-clusters".to_owned());
    let ledger = format!("{root}/{name}/ledger.jsonl");
    eventually("a line in the ledger", LIMIT, || {
        let written = std::fs::read_to_string(&ledger).unwrap_or_default().lines().count();
        (written >= lines || child.try_wait().expect("a child").is_some()).then_some(())
    });
}

fn down(name: &ClusterName) {
    let output = cluster(name, &["down"]).output().expect("the command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn signal(child: &Child, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn a_cluster_that_was_removed_leaves_nothing() {
    let _alone = alone();
    with_pieces();
    let name = name("down");
    let before = Snapshot::of(&name);
    let session = Session::to_stderr();
    Cluster::up(&name, &[ContainerdVersion::V2_1], &session).expect("a cluster");
    assert_ne!(before, Snapshot::of(&name), "a snapshot that does not see a cluster proves nothing");
    assert!(Cluster::down(&name, &session).expect("down"));
    before.assert_restored(&name);
}

#[test]
fn a_harness_killed_at_any_line_of_the_ledger_leaves_what_down_removes() {
    let _alone = alone();
    with_pieces();
    let name = name("kill");
    let before = Snapshot::of(&name);
    for lines in 0..=LEDGER_LINES {
        let mut child = cluster(&name, &UP).spawn().expect("the command");
        wait_for_lines(&name, lines, &mut child);
        child.kill().expect("kill");
        child.wait().expect("its end");
        down(&name);
        eprintln!("killed at line {lines}");
        before.assert_restored(&name);
    }
}

#[test]
fn an_interrupted_harness_leaves_nothing_by_itself() {
    let _alone = alone();
    with_pieces();
    let name = name("intr");
    let before = Snapshot::of(&name);
    for lines in [1, 4, 7, 10, LEDGER_LINES] {
        let mut child = cluster(&name, &UP).spawn().expect("the command");
        wait_for_lines(&name, lines, &mut child);
        signal(&child, "-INT");
        let status = child.wait().expect("its end");
        let mut said = String::new();
        child.stderr.take().expect("its output").read_to_string(&mut said).expect("text");
        assert!(!status.success() && said.contains("interrupted"), "interrupted at line {lines}, it said:\n{said}");
        before.assert_restored(&name);
    }
}

#[test]
fn a_harness_killed_after_the_cluster_is_up_leaves_what_down_removes() {
    let _alone = alone();
    with_pieces();
    let name = name("later");
    let before = Snapshot::of(&name);
    // The command ends once the cluster is up: nobody who made it is left.
    assert!(cluster(&name, &UP).output().expect("the command").status.success());
    down(&name);
    before.assert_restored(&name);
}

#[test]
fn removing_a_cluster_that_does_not_exist_is_no_error() {
    let name = name("none");
    assert!(!Cluster::down(&name, &Session::silent()).expect("down"));
}

#[test]
fn a_name_in_use_is_refused_and_the_cluster_stays() {
    let _alone = alone();
    with_pieces();
    let name = name("twice");
    let before = Snapshot::of(&name);
    let session = Session::to_stderr();
    let first = Cluster::up(&name, &[ContainerdVersion::V1_6], &session).expect("a cluster");
    let Err(error) = Cluster::up(&name, &[ContainerdVersion::V1_6], &session) else { panic!("made twice") };
    assert!(error.to_string().contains("already"), "{error}");
    assert!(first.kubectl(&["get", "nodes"]).expect("kubectl").status.success());
    assert!(Cluster::down(&name, &session).expect("down"));
    before.assert_restored(&name);
}
