//! `--install-dir`: a directory that others use as well.

use std::fs;
use std::os::unix::fs::symlink;

use kwasm_api::report::NodeState;
use rstest::rstest;

use crate::fake::{Node, bundled, differences};
use crate::points::{Fault, unless_killed};

const SHIM: &str = "/usr/local/bin/containerd-shim-wasmtime-v1";

fn node_with(install_dir: &str) -> Node {
    let mut node = Node::with_config("1.7.24", "version = 2\n");
    node.install_dir = Some(install_dir.into());
    node
}

/// A program of somebody's below `/usr/local`, with a link to it and an empty folder beside it.
fn with_java() -> Node {
    let node = node_with("/usr/local");
    for folder in ["runtimes/java/17/bin", "runtimes/java/empty", "runtimes/python"] {
        fs::create_dir_all(node.path("/usr/local").join(folder)).unwrap();
    }
    fs::write(node.path("/usr/local/runtimes/java/17/bin/java"), "java").unwrap();
    symlink("/usr/local/runtimes/java/17/bin/java", node.path("/usr/local/bin/java")).unwrap();
    node
}

#[test]
fn folders_and_links_of_others_stay() {
    let node = with_java();
    let before = node.tree();
    node.process("/usr/local/runtimes/java/17/bin/java");
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(node.read(SHIM), "1");
    assert!(!node.status(&[bundled("wasmtime")]).0.contains("java"));
    node.bundle("wasmtime", "2");
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(fs::read_dir(node.path("/usr/local/runtimes/wasmtime")).unwrap().count(), 1);
    node.must_apply(&[]);
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new());
}

#[test]
fn without_a_ledger_only_what_is_named_as_ours_goes() {
    let node = with_java();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    fs::remove_dir_all(node.path("/var/lib/kwasm")).unwrap();
    fs::create_dir(node.path("/usr/local/runtimes/wasmtime/.0123456789abcdef.kwasm-new")).unwrap();
    node.must_apply(&[bundled("wasmtime")]);
    node.must_apply(&[]);
    let left = differences(&node.tree(), &before);
    // The configuration's entry was adopted: whose it was before, nobody knows any more.
    assert!(left.iter().all(|name| !name.starts_with("usr/")), "{left:?}");
}

#[rstest]
#[case::file(None)]
#[case::link(Some("/usr/lib/shim"))]
fn a_program_of_somebody_elses_is_not_replaced(#[case] link: Option<&str>) {
    let node = node_with("/usr/local");
    match link {
        None => fs::write(node.path(SHIM), "theirs").unwrap(),
        Some(target) => symlink(target, node.path(SHIM)).unwrap(),
    }
    let before = node.tree();
    let stop = node.must_fail(&[bundled("wasmtime")]);
    assert_eq!(
        format!("{:?}: {stop}", stop.reason),
        format!("PathOccupied: look for obstacles: {SHIM} is somebody else's, and a link of that name is needed")
    );
    assert_eq!((stop.state, stop.exit_code()), (NodeState::Unchanged, 3));
    assert_eq!(node.tree(), before);
}

#[test]
fn a_file_in_the_place_of_a_link_that_the_ledger_knows_is_replaced() {
    let node = node_with("/usr/local");
    node.must_apply(&[bundled("wasmtime")]);
    let before = node.tree();
    fs::remove_file(node.path(SHIM)).unwrap();
    fs::write(node.path(SHIM), "copied over it").unwrap();
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(node.tree(), before);
}

#[test]
fn another_directory_than_the_one_in_use_is_refused_until_all_is_uninstalled() {
    let mut node = node_with("/srv/one");
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    let installed = node.tree();
    node.install_dir = Some("/srv/two".into());
    let stop = node.must_fail(&[bundled("wasmtime")]);
    assert_eq!(
        format!("{:?}: {stop}", stop.reason),
        "InvalidCommandLine: choose a directory for binaries: --install-dir is /srv/two, but runtimes are installed in \
         /srv/one"
    );
    assert_eq!(stop.remedy, "uninstall all runtimes first, or leave --install-dir out");
    assert_eq!(node.tree(), installed);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
    node.must_apply(&[bundled("wasmtime")]);
    assert_eq!(node.read("/srv/two/bin/containerd-shim-wasmtime-v1"), "1");
}

#[test]
fn the_same_directory_written_otherwise_is_the_same() {
    let mut node = node_with("/srv//one/");
    node.must_apply(&[bundled("wasmtime")]);
    assert!(node.config().contains("\"/srv/one/bin/containerd-shim-wasmtime-v1\""), "{}", node.config());
    let before = node.tree();
    node.install_dir = Some("/srv/one".into());
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    assert_eq!(node.tree(), before);
}

#[rstest]
#[case("opt/kwasm")]
#[case("/opt/../kwasm")]
#[case("/")]
#[case("")]
fn a_directory_that_is_no_place_is_refused(#[case] dir: &str) {
    let stop = node_with(dir).must_fail(&[bundled("wasmtime")]);
    assert_eq!(
        stop.to_string(),
        format!("choose a directory for binaries: --install-dir `{dir}` is not an absolute path without `..`")
    );
    assert_eq!(stop.exit_code(), 2);
}

#[test]
fn a_run_that_was_cut_off_anywhere_leaves_nothing_that_the_next_does_not_know() {
    let node = with_java();
    let before = node.moment();
    let wanted = [bundled("wasmtime")];
    let points = node.points().of(|| assert_eq!(node.must_apply(&wanted), 1)).len();
    for at in 0..points {
        node.put(&before);
        node.points().strike(Some((Fault::Kill, at)));
        assert!(unless_killed(|| node.apply(&wanted)).is_none());
        node.points().strike(None);
        node.must_apply(&[]);
        assert_eq!(differences(&node.tree(), &before.disk.shown()), Vec::<String>::new(), "at {at}");
    }
}
