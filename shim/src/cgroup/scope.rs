//! A container's cgroup where systemd owns the tree: a transient scope, which systemd makes around the container's process.
//!
//! kubelet's cgroup driver `systemd` (kubeadm's) puts pods into slices. What is made below a slice behind systemd's back may lose
//! its controllers, and so its limits, whenever systemd arranges that slice anew; and systemd sets anew the limits that it was not
//! told. systemd is called by its own tool `busctl`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::limits::{swap_alone, weight};
use crate::reaper::Reaper;
use crate::spec::Resources;

/// How long systemd may take to start a scope. It is the node's first process, and does one thing at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked whether the process is in its scope.
const LOOK: Duration = Duration::from_millis(2);

/// As `org.freedesktop.systemd1(5)` writes "no limit".
const INFINITY: u64 = u64::MAX;

/// A scope of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The slice above it, such as `kubepods-besteffort-podX.slice`.
    pub(super) slice: String,
    /// Its name, such as `cri-containerd-X.scope`.
    pub(super) unit: String,
}

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScopeError {
    /// `busctl` cannot be started.
    #[error("starting busctl: {0}")]
    NoBusctl(io::Error),
    /// systemd refused.
    #[error("systemd refused the scope {unit}: {message}")]
    Refused { unit: String, message: String },
    /// systemd took too long.
    #[error("systemd did not start the scope {unit} in {} s", PATIENCE.as_secs())]
    TooSlow { unit: String },
}

/// A unit's property, in systemd's types.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Property {
    Text(&'static str, String),
    Switch(&'static str, bool),
    Number(&'static str, u64),
    Pids(Pid),
}

impl Property {
    /// As `busctl` takes it: name, type, value.
    fn words(&self) -> Vec<String> {
        match self {
            Self::Text(name, text) => vec![(*name).to_owned(), "s".to_owned(), text.clone()],
            Self::Switch(name, on) => vec![(*name).to_owned(), "b".to_owned(), on.to_string()],
            Self::Number(name, number) => vec![(*name).to_owned(), "t".to_owned(), number.to_string()],
            Self::Pids(pid) => ["PIDs", "au", "1"].map(str::to_owned).into_iter().chain([pid.to_string()]).collect(),
        }
    }
}

impl Scope {
    /// Makes the scope around a process, which is in the scope's cgroup `path` then.
    ///
    /// # Errors
    /// If systemd refuses, is not there, or takes too long.
    pub(super) async fn start(
        &self,
        pid: Pid,
        path: &Path,
        limits: Limits<'_>,
        reaper: &Reaper,
    ) -> Result<(), ScopeError> {
        let mut properties = vec![
            Property::Text("Description", format!("container {}", self.unit.trim_end_matches(".scope"))),
            Property::Text("Slice", self.slice.clone()),
            // What is below the scope, and how it is limited, is the container's own business.
            Property::Switch("Delegate", true),
            // Pods outlive whatever ends services when the node is shut down; kubelet ends them.
            Property::Switch("DefaultDependencies", false),
            // A scope whose process was killed is gone like any other.
            Property::Text("CollectMode", "inactive-or-failed".to_owned()),
            Property::Switch("CPUAccounting", true),
            Property::Switch("MemoryAccounting", true),
            Property::Switch("IOAccounting", true),
            Property::Switch("TasksAccounting", true),
        ];
        properties.extend(limits.properties());
        properties.push(Property::Pids(pid));
        let words = words("StartTransientUnit", "ssa(sv)a(sa(sv))", &[&self.unit, "replace"], &properties);
        // Without further units.
        self.call(words.chain(["0".to_owned()]), reaper).await?;
        self.until_entered(pid, path).await
    }

    /// Tells systemd new limits.
    ///
    /// # Errors
    /// If systemd refuses or is not there.
    pub(super) async fn update(&self, limits: Limits<'_>, reaper: &Reaper) -> Result<(), ScopeError> {
        // "true": until the node starts anew.
        self.call(words("SetUnitProperties", "sba(sv)", &[&self.unit, "true"], &limits.properties()), reaper).await
    }

    async fn call(&self, words: impl Iterator<Item = String>, reaper: &Reaper) -> Result<(), ScopeError> {
        let mut busctl = Command::new("busctl");
        busctl.arg(format!("--timeout={}", PATIENCE.as_secs())).arg("--quiet").args(words);
        let ended = reaper.run(busctl.stdin(Stdio::null()).stdout(Stdio::null())).await;
        match ended.map_err(ScopeError::NoBusctl)? {
            ended if ended.code == 0 => Ok(()),
            ended => Err(ScopeError::Refused { unit: self.unit.clone(), message: ended.message }),
        }
    }

    /// The call only queues a job.
    async fn until_entered(&self, pid: Pid, path: &Path) -> Result<(), ScopeError> {
        let end = Instant::now() + PATIENCE;
        while !fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| is_in(&text, path)) {
            if Instant::now() >= end {
                return Err(ScopeError::TooSlow { unit: self.unit.clone() });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// A call of systemd's manager, in `busctl`'s words: a name may begin like an option.
fn words(
    method: &str,
    signature: &str,
    before: &[&str],
    properties: &[Property],
) -> impl Iterator<Item = String> + use<> {
    let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
    let call = ["--", "call"].into_iter().chain(manager).chain([method, signature]).chain(before.iter().copied());
    let call: Vec<_> = call.map(str::to_owned).collect();
    let properties: Vec<_> = properties.iter().map(Property::words).collect();
    call.into_iter().chain([properties.len().to_string()]).chain(properties.into_iter().flatten())
}

/// Whether `/proc/PID/cgroup` (cgroups(7)) names the cgroup in one of the node's hierarchies: in version 1 systemd uses not all.
fn is_in(cgroups: &str, path: &Path) -> bool {
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|own| Path::new(own).ends_with(path))
}

/// A container's limits, for a version of cgroups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    /// The limits.
    pub(super) resources: &'a Resources,
    /// Whether it is version 2.
    pub(super) unified: bool,
}

impl Limits<'_> {
    /// What systemd must know of them, so that it does not set something else. Placement on processors is not among them: that
    /// property is younger than some systemd, and kubelet repeats it by itself.
    fn properties(self) -> Vec<Property> {
        let Resources { memory, cpu, pids, unified: _ } = self.resources;
        let shares = cpu.shares.filter(|shares| *shares > 0);
        let version = if self.unified {
            [
                memory.limit.map(|bytes| Property::Number("MemoryMax", or_infinity(bytes))),
                memory.reservation.map(|bytes| Property::Number("MemoryLow", or_infinity(bytes))),
                swap_alone(memory.swap, memory.limit)
                    .map(|bytes| Property::Number("MemorySwapMax", or_infinity(bytes))),
                shares.map(|shares| Property::Number("CPUWeight", weight(shares))),
            ]
        } else {
            [
                memory.limit.map(|bytes| Property::Number("MemoryLimit", or_infinity(bytes))),
                shares.map(|shares| Property::Number("CPUShares", shares)),
                None,
                None,
            ]
        };
        let quota = cpu.quota.filter(|quota| *quota != 0).map(|quota| per_second(quota, cpu.period));
        let both = [
            quota.map(|quota| Property::Number("CPUQuotaPerSecUSec", quota)),
            (pids.limit != 0).then(|| Property::Number("TasksMax", or_infinity(pids.limit))),
        ];
        version.into_iter().chain(both).flatten().collect()
    }
}

fn or_infinity(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

/// Microseconds of processor time per second, in systemd's steps of 10 ms, rounded up as runc does.
fn per_second(quota: i64, period: Option<u64>) -> u64 {
    const STEP: u64 = 10_000;
    let Ok(quota) = u64::try_from(quota) else { return INFINITY };
    let period = period.filter(|period| *period > 0).unwrap_or(100_000);
    quota.saturating_mul(1_000_000).div_ceil(period).div_ceil(STEP).saturating_mul(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str, unified: bool) -> Vec<String> {
        let resources = serde_json::from_str(json).expect("resources");
        Limits { resources: &resources, unified }.properties().iter().map(|one| one.words().join(" ")).collect()
    }

    const POD: &str = r#"{"memory":{"limit":67108864,"swap":67108864},
        "cpu":{"shares":102,"quota":10500,"period":100000},"pids":{"limit":100}}"#;

    #[test]
    fn systemd_is_told_the_limits_of_version_2() {
        let expected = [
            "MemoryMax t 67108864",
            "MemorySwapMax t 0",
            "CPUWeight t 4",
            "CPUQuotaPerSecUSec t 110000",
            "TasksMax t 100",
        ];
        assert_eq!(told(POD, true), expected);
    }

    #[test]
    fn systemd_is_told_the_limits_of_version_1() {
        let expected = ["MemoryLimit t 67108864", "CPUShares t 102", "CPUQuotaPerSecUSec t 110000", "TasksMax t 100"];
        assert_eq!(told(POD, false), expected);
    }

    #[test]
    fn without_limit_is_the_largest_number() {
        let unlimited = r#"{"memory":{"limit":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#;
        let most = u64::MAX;
        let expected = ["MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"].map(|name| format!("{name} t {most}"));
        assert_eq!(told(unlimited, true), expected);
        assert!(told("{}", true).is_empty());
    }

    #[test]
    fn a_call_counts_its_properties() {
        let properties = [Property::Text("Slice", "-.slice".to_owned()), Property::Pids(Pid::from_raw(7))];
        let words: Vec<_> = words("Start", "ssa(sv)", &["a.scope", "replace"], &properties).collect();
        assert_eq!(words[..2], ["--", "call"]);
        assert_eq!(words[5..].join(" "), "Start ssa(sv) a.scope replace 2 Slice s -.slice PIDs au 1 7");
    }

    #[test]
    fn a_process_is_told_by_its_number() {
        assert_eq!(Property::Pids(Pid::from_raw(7)).words(), ["PIDs", "au", "1", "7"]);
        assert_eq!(Property::Switch("Delegate", true).words(), ["Delegate", "b", "true"]);
    }

    #[test]
    fn a_process_is_in_its_scope_once_one_hierarchy_says_so() {
        let path = Path::new("kubepods.slice/kubepods-podX.slice/cri-containerd-c1.scope");
        assert!(is_in("0::/kubepods.slice/kubepods-podX.slice/cri-containerd-c1.scope\n", path));
        let version_1 = "5:cpuset:/\n1:name=systemd:/kubepods.slice/kubepods-podX.slice/cri-containerd-c1.scope\n";
        assert!(is_in(version_1, path));
        assert!(!is_in("0::/system.slice/containerd.service\n", path));
    }
}
