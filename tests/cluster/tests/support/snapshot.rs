//! What a machine has that a cluster could leave behind. Other clusters and other programs may
//! come and go meanwhile, so what is theirs is left out.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kwasm_test_cluster::ClusterName;

/// Settings that a kubelet, a kube-proxy or a systemd would change.
const SETTINGS: [&str; 12] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "kernel/core_pattern",
    "kernel/pid_max",
    "fs/nr_open",
    "fs/file-max",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
];

/// Everything looked at, one line per thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at the machine with `ours` in mind.
    pub(crate) fn of(ours: &ClusterName) -> Self {
        let mut lines = BTreeSet::new();
        let mut add =
            |kind: &str, found: Vec<String>| lines.extend(found.into_iter().map(|line| format!("{kind}: {line}")));
        add("mount", mounts());
        add("cgroup", cgroups());
        add("link", links());
        add("route", said("ip", &["route", "show", "table", "all"]));
        add("netns", entries(Path::new("/run/netns")));
        add("iptables", rules("iptables-save"));
        add("ip6tables", rules("ip6tables-save"));
        add(
            "setting",
            SETTINGS.iter().map(|setting| format!("{setting} = {}", read(&format!("/proc/sys/{setting}")))).collect(),
        );
        add("process", processes(ours));
        for folder in ["/run", "/run/systemd", "/dev", "/etc", "/var/lib"] {
            add("file", entries(Path::new(folder)));
        }
        add("file", entries(Path::new("/tmp")).into_iter().filter(|path| path.contains("nspawn")).collect());
        lines.retain(|line| !is_foreign(line, ours));
        Self(lines)
    }

    /// Asserts that the machine is (again) as it was. The kernel takes some things away a moment
    /// after their last user is gone.
    pub(crate) fn assert_restored(&self, ours: &ClusterName) {
        let differences = || {
            let now = Self::of(ours);
            let added = now.0.difference(&self.0).map(|line| format!("+ {line}"));
            added.chain(self.0.difference(&now.0).map(|line| format!("- {line}"))).collect::<Vec<_>>()
        };
        for _ in 0..20 {
            if differences().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let differences = differences();
        assert!(differences.is_empty(), "the machine is not as before:\n{}", differences.join("\n"));
    }
}

/// Whether a line tells of another cluster, or of a tool that others run.
fn is_foreign(line: &str, ours: &ClusterName) -> bool {
    let of_cluster = ["kwasm-clusters/", "kwasm-", "(alias "].iter().any(|before| {
        line.split_once(before).is_some_and(|(_, name)| !name.starts_with(ours.as_str()) && !name.is_empty())
    });
    let of_tool = line.starts_with("route:") && line.contains(" dev kwasm") || line.contains("buildah");
    of_cluster || of_tool
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn said(program: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(words).output().expect("a tool that is installed");
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect()
}

fn mounts() -> Vec<String> {
    let lines = read("/proc/self/mountinfo");
    lines.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect()
}

/// The folders two levels deep: a cluster's own and what others keep at the top.
fn cgroups() -> Vec<String> {
    let hierarchies = entries(Path::new("/sys/fs/cgroup"));
    hierarchies.iter().flat_map(|root| entries(Path::new(root))).filter(|path| Path::new(path).is_dir()).collect()
}

/// Links with their alias, by which clusters mark theirs.
fn links() -> Vec<String> {
    let links = entries(Path::new("/sys/class/net")).into_iter();
    let described = links.map(|link| {
        let alias = read(&format!("{link}/ifalias"));
        if alias.is_empty() { link } else { format!("{link} (alias {alias})") }
    });
    described.collect()
}

fn rules(program: &str) -> Vec<String> {
    let lines = said(program, &[]).into_iter().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned()).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path().display().to_string()).collect()
}

/// The processes that a cluster of this name started, by cgroup, command line or environment.
fn processes(ours: &ClusterName) -> Vec<String> {
    let name = ours.as_str();
    let own = std::process::id().to_string();
    let pids =
        entries(Path::new("/proc")).into_iter().filter_map(|path| path.strip_prefix("/proc/").map(str::to_owned));
    let pids = pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own);
    let mark = format!("{}={name}", super::MARK);
    pids.filter_map(|pid| {
        let text = |file: &str| {
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default())
                .replace('\0', " ")
        };
        let words = text("cmdline");
        let is_ours = text("cgroup").contains(&format!("kwasm-{name}"))
            || words.contains(name)
            || text("environ").contains(&mark);
        is_ours.then(|| format!("{pid} {words}"))
    })
    .collect()
}
