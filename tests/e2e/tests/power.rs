//! The power fails in the middle of an installation: on a machine that can be switched off.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod machine;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use kwasm_test_cluster::Session;
use kwasm_test_cluster::vm::Disk;
use machine::{Host, INSTALLER};

const CONFIG: &str = "/etc/containerd/config.toml";

/// Everything that an installation may change: paths, kinds, modes and contents. Times do not count.
const TREE: &str = r"find /etc/containerd /opt /var/lib/kwasm /usr/local/bin -printf '%p %y %m %l\n' 2>/dev/null | sort
find /etc/containerd -type f -exec sha256sum {} + 2>/dev/null | sort";

/// How often the power is cut: enough to see it, or, with `KWASM_TEST_LONG`, enough to trust it.
fn cuts() -> u32 {
    if std::env::var_os("KWASM_TEST_LONG").is_some() { 20 } else { 3 }
}

/// At least 0 and below 1, another one each time.
fn chance() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

fn tree(host: &Host) -> String {
    host.run(&["sh", "-c", TREE])
}

/// The node's runtime must have come back by itself: its containerd runs and serves containers.
fn assert_healthy(host: &Host, when: &str) {
    let started = host.machine.exec(&["systemctl", "start", "containerd"]).expect("an answer");
    assert!(started.status.success(), "{when}: containerd does not start\n{}", host.machine.console());
    host.run(&["ctr", "version"]);
}

#[test]
fn after_a_power_cut_at_any_moment_of_an_installation_the_node_is_healthy_and_a_rerun_ends_it() {
    let disk = Disk::new(&Session::to_stderr()).expect("a disk");
    let mut host = Host::boot(&disk);
    host.unpack_installer();
    let before = tree(&host);
    let started = Instant::now();
    host.installer("install");
    let length = started.elapsed();
    host.installer("uninstall");
    assert_eq!(tree(&host), before, "uninstalling leaves nothing");
    host.run(&["sync"]);
    for cut in 0..cuts() {
        let moment = length.mul_f64((f64::from(cut) + chance()) / f64::from(cuts()));
        host = cut_and_boot(host, &disk, moment);
        let when = format!("cut {moment:?} after the start of an installation of {length:?}");
        assert_healthy(&host, &when);
        host.installer("install");
        assert!(host.run(&["cat", CONFIG]).contains("runtimes.wasmtime"), "{when}: the rerun did not install");
        host.installer("uninstall");
        assert_eq!(tree(&host), before, "{when}");
        host.run(&["sync"]);
        eprintln!("{when}: healthy, finished, and removed again");
    }
    host.machine.shut_down().expect("to shut down");
}

/// Starts an installation in the background and cuts the power at that moment of it.
fn cut_and_boot(host: Host, disk: &Disk, moment: Duration) -> Host {
    const START: &str =
        r#"setsid "$1/kwasm-installer" --bundled-dir "$1/bundled" install >/dev/null 2>&1 </dev/null &"#;
    host.run(&["sh", "-c", START, "sh", INSTALLER]);
    // The moment is what is tested: this is no wait for a condition.
    std::thread::sleep(moment);
    host.machine.power_cut();
    Host::boot(disk)
}
