//! Binaries that somebody deleted or damaged after they were installed: noticed, told, and put in place again.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kwasm_api::report::NodeState;
use rstest::rstest;

use crate::fake::{Node, bundled, differences};
use crate::http::served;
use crate::points::{Fault, unless_killed};
use crate::program::{Tar, program};
use crate::server::Server;

const SHIM: &str = "containerd-shim-wasmtime-v1";
const ENGINE: &str = "wasmtime-engine";

/// A node with an installed runtime, whose folder this is.
fn installed() -> (Node, PathBuf) {
    let node = Node::of("debian-13-containerd-1.7");
    node.bundle("wasmtime", "program");
    node.must_apply(&[bundled("wasmtime")]);
    let folder = folder_of(&node, SHIM);
    (node, folder)
}

fn folder_of(node: &Node, shim: &str) -> PathBuf {
    let target = fs::read_link(node.path("/opt/kwasm/bin").join(shim)).unwrap();
    node.path(target.parent().unwrap().to_str().unwrap())
}

fn delete(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn cut_off(path: &Path) {
    fs::write(path, "pro").unwrap();
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn change(path: &Path) {
    fs::write(path, "PROGRAM").unwrap();
}

fn forbid(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

fn lead_elsewhere(path: &Path) {
    fs::remove_file(path).unwrap();
    symlink("/bin/true", path).unwrap();
}

fn make_folder(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir_all(path.join("folder")).unwrap();
}

fn make_file(path: &Path) {
    fs::remove_dir_all(path).unwrap();
    fs::write(path, "program").unwrap();
}

#[rstest]
#[case::no_shim(SHIM, delete, "`containerd-shim-wasmtime-v1` is missing")]
#[case::part_of_a_shim(SHIM, cut_off, "`containerd-shim-wasmtime-v1` has 3 bytes instead of 7")]
#[case::empty_shim(SHIM, empty, "`containerd-shim-wasmtime-v1` has 0 bytes instead of 7")]
#[case::other_shim(SHIM, change, "`containerd-shim-wasmtime-v1` has the SHA-256 ")]
#[case::shim_that_nobody_may_run(SHIM, forbid, "`containerd-shim-wasmtime-v1` is not executable")]
#[case::link(SHIM, lead_elsewhere, "`containerd-shim-wasmtime-v1` is no regular file")]
#[case::folder(SHIM, make_folder, "`containerd-shim-wasmtime-v1` is no regular file")]
#[case::no_engine(ENGINE, delete, "`wasmtime-engine` is missing")]
#[case::part_of_an_engine(ENGINE, cut_off, "`wasmtime-engine` has 3 bytes instead of 7")]
#[case::engine_that_nobody_may_run(ENGINE, forbid, "`wasmtime-engine` is not executable")]
#[case::file_in_the_place_of_all("", make_file, "it is no directory")]
fn a_damaged_binary_is_told_and_put_in_place_again(#[case] name: &str, #[case] damage: fn(&Path), #[case] words: &str) {
    let (node, folder) = installed();
    let before = node.tree();
    damage(if name.is_empty() { folder.clone() } else { folder.join(name) }.as_path());
    let shown = Path::new("/").join(folder.strip_prefix(node.path("/")).unwrap());
    let problem = format!("not as it should be: the next run has to repair {}: {words}", shown.display());
    let status = node.status(&[bundled("wasmtime")]);
    assert!(status.0.contains(&problem), "{status:?}");
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new());
    assert_eq!(node.plan(&[bundled("wasmtime")]).lines().last(), Some("nothing to do"));
}

#[test]
fn a_folder_that_was_deleted_comes_back() {
    let (node, folder) = installed();
    let before = node.tree();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    assert_eq!(node.tree(), before);
}

#[rstest]
#[case::shim(SHIM, "`containerd-shim-wasmtime-v1` is missing")]
#[case::engine(ENGINE, "`wasmtime-engine` is missing")]
#[case::all("", "it is gone")]
fn what_cannot_be_repaired_without_its_bundle_is_a_problem_and_says_what_helps(
    #[case] name: &str,
    #[case] words: &str,
) {
    let (node, folder) = installed();
    node.empty_bundle();
    if name.is_empty() {
        fs::remove_dir_all(&folder).unwrap()
    } else {
        delete(&folder.join(name))
    }
    let shown = Path::new("/").join(folder.strip_prefix(node.path("/")).unwrap()).display().to_string();
    let status = node.status(&[bundled("wasmtime")]);
    let problem = format!("has to repair {shown} with an installer image that has wasmtime: {words}");
    assert!(status.0.contains(&problem), "{status:?}");
    let before = node.tree();
    let stop = node.must_fail(&[bundled("wasmtime")]);
    assert_eq!(stop.state, NodeState::Unchanged);
    assert_eq!(stop.message, format!("{shown}: {words}, and the installer's bundle has no runtime `wasmtime`"));
    assert_eq!(stop.remedy, "use an installer image that carries the runtime, or uninstall it");
    assert_eq!(node.tree(), before);
    node.must_apply(&[]);
    assert!(!node.path("/opt/kwasm").exists());
}

#[test]
fn a_runtime_that_was_fetched_is_fetched_again_when_it_is_damaged() {
    let content = Tar::with_shim().program("engine", b"e").gzip();
    let (node, server) = (Node::with_config("2.1.4", "version = 3\n"), Server::serving(content.clone()));
    let wanted = [served(&server.url("x"), &content)];
    node.must_apply(&wanted);
    let before = node.tree();
    let link = node.path("/opt/kwasm/bin");
    let shim = fs::read_dir(link).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let folder = folder_of(&node, &shim);
    for (times, damage) in [(2, "engine"), (3, shim.as_str())] {
        empty(&folder.join(damage));
        let plan = node.plan(&wanted);
        assert!(plan.contains(&format!("`{damage}` is empty")), "{plan}");
        assert_eq!(node.must_apply(&wanted), 0);
        assert_eq!(node.tree(), before);
        assert_eq!(server.asked().len(), times);
    }
    fs::write(folder.join(&shim), program("another")).unwrap();
    node.must_apply(&wanted);
    assert_eq!(node.tree(), before);
    delete(&folder.join(&shim));
    delete(&node.path("/var/lib/kwasm/installer/ledger.json"));
    node.must_apply(&wanted);
    assert_eq!(node.bytes(&format!("/opt/kwasm/bin/{shim}")), program("spin"));
}

#[test]
fn a_repair_that_ends_anywhere_is_ended_by_the_next_run_and_never_takes_a_program_away() {
    let (node, folder) = installed();
    let whole = node.moment();
    cut_off(&folder.join(ENGINE));
    let damaged = node.moment();
    let wanted = [bundled("wasmtime")];
    let points = node.points().of(|| assert_eq!(node.must_apply(&wanted), 0)).len();
    assert!(points > 8, "{points}");
    for (at, fault) in (0..points).flat_map(|at| Fault::ALL.map(|fault| (at, fault))) {
        node.put(&damaged);
        node.points().strike(Some((fault, at)));
        unless_killed(|| node.apply(&wanted));
        node.points().strike(None);
        node.has_programs().unwrap_or_else(|words| panic!("{fault} at {at}: {words}"));
        node.must_apply(&wanted);
        let left = differences(&node.moment().disk.shown(), &whole.disk.shown());
        assert_eq!(left, Vec::<String>::new(), "{fault} at {at}");
    }
}
