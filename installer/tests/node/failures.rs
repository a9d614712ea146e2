//! What goes wrong, with the words that a user sees, and the node afterwards.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use kwasm_api::Runtime;
use kwasm_api::report::{NodeState, RuntimeState};
use rstest::rstest;

use crate::fake::{Mood, Node, bundled, on_host, preinstalled};
use crate::program::{dynamic_program, program};

const PLAIN: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";

fn plain() -> Node {
    Node::with_config("1.7.24", PLAIN)
}

#[rstest]
#[case::not_toml(
    "1.7.24",
    "version = 2\n[plugins\n",
    bundled("wasmtime"),
    "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 9: unclosed table, expected `]`\n"
)]
#[case::later_version(
    "2.9.2",
    "version = 5\n",
    bundled("wasmtime"),
    "ConfigVersionNotSupported: read /etc/containerd/config.toml: /etc/containerd/config.toml: `version = 5`: this program edits versions 1 (no `version` key), 2, 3 and 4\n"
)]
#[case::version_3_under_1_6(
    "1.6.20",
    "version = 3\n",
    bundled("wasmtime"),
    "HandlerNotLoaded: load the new /etc/containerd/config.toml with containerd: containerd 1.6.20 would load /etc/containerd/config.toml without the handler `wasmtime`\n"
)]
#[case::too_old(
    "1.4.3",
    "version = 2\n",
    bundled("wasmtime"),
    "ContainerdTooOld: look for containerd: containerd 1.4.3 does not speak CRI v1\n"
)]
#[case::conflict(
    "1.7.24",
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmtime]\nruntime_type = \"io.containerd.wasmtime.v1\"\n",
    bundled("wasmtime"),
    "HandlerConflict: compare the handlers: /etc/containerd/config.toml has a handler `wasmtime` of somebody else's: runtime_type = \"io.containerd.wasmtime.v1\"\n"
)]
#[case::runc_is_not_ours("1.7.24", "version = 2\n", bundled("runc"), "BundleNotUsable: read the bundle")]
#[case::layout(
    "1.7.24",
    "version = 2\nplugins.\"io.containerd.grpc.v1.cri\" = 1\n",
    bundled("wasmtime"),
    "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else\n"
)]
#[case::no_binary(
    "1.7.24",
    PLAIN,
    on_host("crun", "/usr/bin/crun"),
    "BinaryMissing: look for the runtimes' binaries: there is no file /usr/bin/crun on the node\n"
)]
#[case::not_preinstalled(
    "1.7.24",
    PLAIN,
    preinstalled("spin"),
    "HandlerMissing: compare the handlers: /etc/containerd/config.toml has no handler `spin`, which is said to be preinstalled\n"
)]
#[case::no_bundle(
    "1.7.24",
    PLAIN,
    bundled("spin"),
    "BundleNotUsable: read the bundle: the installer's bundle has no runtime `spin`; it has: wasmtime"
)]
fn a_node_that_cannot_take_it_is_left_alone_and_says_why(
    #[case] version: &str,
    #[case] config: &str,
    #[case] runtime: Runtime,
    #[case] message: &str,
) {
    let node = Node::with_config(version, config);
    let before = node.tree();
    let planned = node.plan(std::slice::from_ref(&runtime));
    assert!(planned.starts_with(message), "{planned}");
    let stop = node.must_fail(&[runtime]);
    assert_eq!((stop.state, stop.exit_code()), (NodeState::Unchanged, 3));
    assert_eq!(node.tree(), before);
    assert_eq!(node.restarts(), 0);
}

#[test]
fn a_daemon_that_refuses_to_start_gets_its_old_files_back() {
    let node = plain();
    let before = node.tree();
    let stop = node.mood(Mood::Refuses("wasmtime")).must_fail(&[bundled("wasmtime")]);
    assert_eq!((stop.state, stop.exit_code()), (NodeState::RolledBack, 4));
    assert_eq!(
        stop.message,
        "`systemctl restart containerd.service` failed: failed\nlevel=fatal msg=\"as the daemon put it\""
    );
    assert_eq!(node.tree(), before);
    assert_eq!(node.handlers(), ["runc"]);
}

#[test]
fn a_daemon_whose_cri_is_not_ready_gets_its_old_files_back() {
    let node = plain();
    let before = node.tree();
    let (report, stop) = node.mood(Mood::CriDiesWith("wasmtime")).apply(&[bundled("wasmtime")]);
    let stop = stop.unwrap();
    assert!(
        stop.message.starts_with("CRI answers, but its condition RuntimeReady is false: as CRI put it\n"),
        "{stop}"
    );
    assert_eq!(report.failure.unwrap().reason, "CriDidNotReturn");
    assert_eq!(report.restarts, 2);
    assert_eq!(report.runtimes[0].state, RuntimeState::Failed);
    assert_eq!(node.tree(), before);
    assert_eq!(node.handlers(), ["runc"]);
}

#[test]
fn a_runtime_that_was_there_before_a_failure_is_still_reported_ready() {
    let node = plain();
    node.bundle("spin", "s");
    node.must_apply(&[bundled("wasmtime")]);
    let (report, _) = node.mood(Mood::Refuses("spin")).apply(&[bundled("spin"), bundled("wasmtime")]);
    let states: Vec<_> = report.runtimes.iter().map(|runtime| (runtime.name.as_str(), runtime.state)).collect();
    assert_eq!(states, [("spin", RuntimeState::Failed), ("wasmtime", RuntimeState::Ready)]);
    assert_eq!(node.handlers(), ["runc", "wasmtime"]);
}

#[test]
fn a_daemon_that_never_comes_back_needs_attention() {
    let node = plain();
    let before = node.config();
    let stop = node.mood(Mood::Broken).must_fail(&[bundled("wasmtime")]);
    assert_eq!((stop.state, stop.exit_code()), (NodeState::NeedsAttention, 5));
    assert_eq!(node.config(), before);
}

#[test]
fn a_node_that_needed_attention_is_finished_when_its_daemon_works_again() {
    let node = plain();
    let before = node.tree();
    node.mood(Mood::Broken).must_fail(&[bundled("wasmtime")]);
    node.mood(Mood::Healthy).must_apply(&[bundled("wasmtime")]);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_runtime_in_use_is_not_removed() {
    let node = plain();
    node.must_apply(&[bundled("wasmtime")]);
    let before = node.tree();
    node.process("/opt/kwasm/runtimes/wasmtime/0123456789abcdef/containerd-shim-wasmtime-v1");
    let stop = node.must_fail(&[]);
    assert_eq!(stop.message, "still running: containerd-shim (pid 4711)");
    assert_eq!(stop.state, NodeState::Unchanged);
    assert_eq!(node.tree(), before);
}

#[test]
fn force_takes_the_configuration_and_leaves_the_binaries_that_run() {
    let mut node = plain();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    let binary = fs::read_link(node.path("/opt/kwasm/bin/containerd-shim-wasmtime-v1")).unwrap();
    node.process(&binary.display().to_string());
    node.force = true;
    node.must_apply(&[]);
    assert_eq!(node.config(), PLAIN);
    assert_eq!(node.read("/opt/kwasm/bin/containerd-shim-wasmtime-v1"), "1");
    node.no_processes();
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_binary_of_the_host_is_registered_and_never_touched() {
    let node = plain();
    node.program("/usr/bin/crun", &program("crun"));
    let before = node.tree();
    node.must_apply(&[on_host("crun", "/usr/bin/crun")]);
    assert_eq!(node.handlers(), ["crun", "runc"]);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

/// A program for a machine that nobody has.
fn foreign_program() -> Vec<u8> {
    let mut foreign = program("");
    foreign[18..20].copy_from_slice(&[0xf7, 0xff]);
    foreign
}

#[rstest]
#[case::text(b"crun".to_vec(), 0o755, "`/usr/bin/crun` is not an ELF binary: it begins with `crun`")]
#[case::script(b"#!/bin/sh\n".to_vec(), 0o755, "`/usr/bin/crun` is not an ELF binary: it begins with `#!/bin/sh\\n`")]
#[case::empty(Vec::new(), 0o755, "`/usr/bin/crun` is not an ELF binary: it is empty")]
#[case::forbidden(program("crun"), 0o644, "`/usr/bin/crun` is not executable")]
#[case::foreign(
    foreign_program(),
    0o755,
    "`/usr/bin/crun` is a program for machine 65527 (64 bits, little-endian), this node is "
)]
#[case::no_loader(
    dynamic_program("/lib/ld-none.so.1"),
    0o755,
    "`/usr/bin/crun` needs the loader /lib/ld-none.so.1, which this node does not have: a statically linked build runs on every node"
)]
fn a_binary_of_the_host_that_cannot_run_is_refused_with_its_fault(
    #[case] content: Vec<u8>,
    #[case] mode: u32,
    #[case] words: &str,
) {
    let node = plain();
    node.program("/usr/bin/crun", &content);
    fs::set_permissions(node.path("/usr/bin/crun"), Permissions::from_mode(mode)).unwrap();
    let before = node.tree();
    let stop = node.must_fail(&[on_host("crun", "/usr/bin/crun")]);
    let said = format!("{:?}: {stop}", stop.reason);
    let meant = format!("ArtifactRefused: look for the runtimes' binaries: {words}");
    assert!(said == meant || words.ends_with("this node is ") && said.starts_with(&meant), "{said}");
    assert_eq!(stop.remedy, "put a program that this node can run there, or correct the path");
    assert_eq!((stop.state, node.restarts()), (NodeState::Unchanged, 0));
    assert_eq!(node.tree(), before);
}

#[test]
fn a_folder_in_the_place_of_a_binary_of_the_host_is_refused() {
    let node = plain();
    std::fs::create_dir(node.path("/usr/bin/crun")).unwrap();
    let stop = node.must_fail(&[on_host("crun", "/usr/bin/crun")]);
    assert_eq!(stop.message, "`/usr/bin/crun` is no regular file");
}

#[test]
fn a_binary_of_the_host_may_be_behind_a_link() {
    let node = plain();
    node.program("/usr/lib/crun-1", &program("crun"));
    std::os::unix::fs::symlink("/usr/lib/crun-1", node.path("/usr/bin/crun")).unwrap();
    node.must_apply(&[on_host("crun", "/usr/bin/crun")]);
    assert_eq!(node.handlers(), ["crun", "runc"]);
}

#[test]
fn a_preinstalled_handler_is_verified_and_its_configuration_left_alone() {
    let node = plain();
    assert_eq!(node.must_apply(&[preinstalled("runc")]), 0);
    assert_eq!(node.config(), PLAIN);
}

#[test]
fn an_entry_that_somebody_else_wrote_just_so_is_kept_when_ours_goes() {
    let theirs = format!(
        "{PLAIN}[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\nruntime_type = \"/usr/bin/crun\"\n"
    );
    let node = Node::with_config("1.7.24", &theirs);
    node.program("/usr/bin/crun", &program("crun"));
    assert_eq!(node.must_apply(&[on_host("crun", "/usr/bin/crun")]), 0);
    node.must_apply(&[]);
    assert_eq!(node.config(), theirs);
}

#[test]
fn a_folder_of_somebody_elses_beside_our_links_is_no_obstacle() {
    let node = plain();
    std::fs::create_dir_all(node.path("/opt/kwasm/bin/backup")).unwrap();
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_link_in_the_place_of_one_of_our_folders_stays_a_link() {
    let node = plain();
    for (link, target) in [("/var/lib/kwasm", "/data/kwasm"), ("/opt/kwasm", "/data/opt")] {
        std::fs::create_dir_all(node.path(target)).unwrap();
        std::os::unix::fs::symlink(target, node.path(link)).unwrap();
    }
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    node.mood(Mood::Refuses("spin")).bundle("spin", "s");
    assert_eq!(node.must_fail(&[bundled("spin"), bundled("wasmtime")]).state, NodeState::RolledBack);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
    assert_eq!(node.plan(&[]).lines().last(), Some("nothing to do"));
}

#[rstest]
#[case::itself(
    "/dev/sda1 /etc/containerd/config.toml ext4 rw 0 0",
    "PathOccupied: look for obstacles: /etc/containerd/config.toml is a mount point: it cannot be replaced at once"
)]
#[case::what_it_links_to(
    "none /mnt tmpfs rw 0 0",
    "NodeNotSupported: look for the configuration: cannot register wasmtime: /mnt forgets everything at the next start"
)]
#[case::a_read_only_place_that_it_links_to(
    "/dev/sdb /mnt ext4 ro 0 0",
    "NodeNotSupported: look for the configuration: cannot register wasmtime: /mnt is read-only"
)]
fn a_configuration_on_a_file_system_of_its_own_is_refused_before_anything_is_changed(
    #[case] mount: &str,
    #[case] words: &str,
) {
    let mut node = Node::with_config("1.7.24", "version = 2\n");
    node.facts.mounts.push(mount.to_owned());
    if mount.contains("/mnt") {
        fs::create_dir(node.path("/mnt")).unwrap();
        fs::rename(node.path("/etc/containerd/config.toml"), node.path("/mnt/config.toml")).unwrap();
        symlink("/mnt/config.toml", node.path("/etc/containerd/config.toml")).unwrap();
    }
    let before = node.tree();
    let stop = node.must_fail(&[bundled("wasmtime")]);
    assert_eq!(format!("{:?}: {stop}", stop.reason), words);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_runtime_that_keeps_its_daemon_from_answering_can_be_taken_away() {
    let node = Node::with_config("1.7.24", "version = 2\n");
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    node.mood(Mood::CriDiesWith("wasmtime"));
    node.power_cut().ok();
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}
