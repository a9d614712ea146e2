//! What the tests of the cluster share.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub(crate) mod snapshot;
pub(crate) mod workload;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kwasm_test_cluster::ClusterName;

/// The environment variable by which processes of a test are known.
pub(crate) const MARK: &str = "KWASM_TEST_MARK";

/// A name that no other test run uses: the letters say which test, the number which run.
pub(crate) fn name(letters: &str) -> ClusterName {
    format!("{letters}-{}", std::process::id()).parse().expect("a good name")
}

/// The command `cluster`, marked as ours.
pub(crate) fn cluster(name: &ClusterName, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(words).args(["--name", name.as_str()]).env(MARK, name.as_str());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits for a condition that must come.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {} s for {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}
