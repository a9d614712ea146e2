//! The power fails in the middle of an installation: on a machine that can be switched off.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Output;
use std::time::{Duration, Instant};

use kwasm_test_cluster::Session;
use kwasm_test_cluster::vm::{Disk, Machine};

const INSTALLER: &str = "/root/kwasm-installer";
const CONFIG: &str = "/etc/containerd/config.toml";

/// Takes the installer out of its image: archive, reference, folder.
const UNPACK: &str = r#"set -e
systemctl start containerd
ctr -n k8s.io images import "$1" >/dev/null
mkdir -p /run/image "$3"
ctr -n k8s.io images mount "$2" /run/image >/dev/null
cp -a /run/image/. "$3"
ctr -n k8s.io images unmount --rm /run/image >/dev/null
rm "$1"
sync"#;

/// Everything that an installation may change: paths, kinds, modes and contents. Times do not count.
const TREE: &str = r"find /etc/containerd /opt /var/lib/kwasm /usr/local/bin -printf '%p %y %m %l\n' 2>/dev/null | sort
find /etc/containerd -type f -exec sha256sum {} + 2>/dev/null | sort";

/// How often the power is cut: enough to see it, or, with `KWASM_TEST_LONG`, enough to trust it.
fn cuts() -> u32 {
    if std::env::var_os("KWASM_TEST_LONG").is_some() { 20 } else { 3 }
}

struct Node {
    machine: Machine,
}

impl Node {
    fn boot(disk: &Disk) -> Self {
        let machine = Machine::boot(disk, &Session::to_stderr()).expect("a machine that boots");
        Self { machine }
    }

    fn run(&self, words: &[&str]) -> String {
        self.machine.run(words).expect("a command that succeeds")
    }

    fn installer(&self, words: &[&str]) -> Output {
        let bundle = format!("{INSTALLER}/bundled");
        let program = format!("{INSTALLER}/kwasm-installer");
        let line = [&[program.as_str(), "--bundled-dir", bundle.as_str()], words].concat();
        self.machine.exec(&line).expect("an answer")
    }

    fn must(&self, words: &[&str]) {
        let output = self.installer(words);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
    }

    fn tree(&self) -> String {
        self.run(&["sh", "-c", TREE])
    }

    /// The node's runtime must have come back by itself: its containerd runs and serves containers.
    fn assert_healthy(&self, when: &str) {
        let started = self.machine.exec(&["systemctl", "start", "containerd"]).expect("an answer");
        assert!(started.status.success(), "{when}: containerd does not start\n{}", self.machine.console());
        self.run(&["ctr", "version"]);
    }
}

fn prepared(disk: &Disk) -> Node {
    let node = Node::boot(disk);
    let archive = xtask::images::archive("kwasm-installer").expect("the installer's image");
    let reference = xtask::images::reference("kwasm-installer").expect("its name");
    let bytes = std::fs::read(archive).expect("the archive; `cargo xtask images` builds it");
    node.machine.write("/root/image.tar", &bytes).expect("a file");
    node.run(&["sh", "-c", UNPACK, "sh", "/root/image.tar", &reference, INSTALLER]);
    node
}

#[test]
fn after_a_power_cut_at_any_moment_of_an_installation_the_node_is_healthy_and_a_rerun_ends_it() {
    let disk = Disk::new(&Session::to_stderr()).expect("a disk");
    let mut node = prepared(&disk);
    let before = node.tree();
    let started = Instant::now();
    node.must(&["install"]);
    let length = started.elapsed();
    node.must(&["uninstall"]);
    assert_eq!(node.tree(), before, "uninstalling leaves nothing");
    node.run(&["sync"]);
    for cut in 0..cuts() {
        let moment = length * (2 * cut + 1) / (2 * cuts());
        node = cut_and_boot(node, &disk, moment);
        let when = format!("cut {moment:?} after the start of an installation of {length:?}");
        node.assert_healthy(&when);
        node.must(&["install"]);
        assert!(node.run(&["cat", CONFIG]).contains("runtimes.wasmtime"), "{when}: the rerun did not install");
        node.must(&["uninstall"]);
        assert_eq!(node.tree(), before, "{when}");
        node.run(&["sync"]);
        eprintln!("{when}: healthy, finished, and removed again");
    }
    node.machine.shut_down().expect("to shut down");
}

/// Starts an installation in the background and cuts the power at that moment of it.
fn cut_and_boot(node: Node, disk: &Disk, moment: Duration) -> Node {
    const START: &str =
        r#"setsid "$1/kwasm-installer" --bundled-dir "$1/bundled" install >/dev/null 2>&1 </dev/null &"#;
    node.run(&["sh", "-c", START, "sh", INSTALLER]);
    // The moment is what is tested: this is no wait for a condition.
    std::thread::sleep(moment);
    node.machine.power_cut();
    Node::boot(disk)
}
