//! What a machine must be to hold the test cluster.
//!
//! [`Host::observe`] reads, [`Host::unsuitable`] decides.

use std::process::Command;

/// The oldest Go that builds the cluster's programs (`go.mod` of Kubernetes 1.35 and helm 4).
pub const GO: (u32, u32) = (1, 26);

/// `CAP_SYS_ADMIN` (`linux/capability.h`): mounts and namespaces need it.
const CAP_SYS_ADMIN: u32 = 21;

/// The controllers that kubelet and containerd start their pods with.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "devices", "memory", "pids"];

/// What matters of a machine, as text that the kernel and its programs print.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `/etc/os-release`.
    pub os_release: String,
    /// `/proc/self/status`.
    pub status: String,
    /// `/proc/filesystems`.
    pub filesystems: String,
    /// `/proc/cgroups`.
    pub cgroups: String,
    /// `go env GOVERSION`; empty where there is no Go.
    pub go: String,
    /// As in [`std::env::consts::ARCH`].
    pub architecture: String,
}

impl Host {
    /// Reads this machine. What cannot be read is empty.
    #[must_use]
    pub fn observe() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut filesystems = read("/proc/filesystems");
        if !has_overlay(&filesystems) {
            // A module that is not loaded yet is not listed. Where there is no modprobe, the list stays as it is.
            let _ = Command::new("modprobe").arg("overlay").output();
            filesystems = read("/proc/filesystems");
        }
        Self {
            os_release: read("/etc/os-release"),
            status: read("/proc/self/status"),
            filesystems,
            cgroups: read("/proc/cgroups"),
            go: go_version(),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }

    /// Why this machine cannot hold the cluster, in one line; none if it can.
    #[must_use]
    pub fn unsuitable(&self) -> Option<String> {
        self.system().or_else(|| self.rights()).or_else(|| self.kernel()).or_else(|| self.toolchain())
    }

    fn system(&self) -> Option<String> {
        let value = |key: &str| {
            let line = self.os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or("?").trim_matches('"').to_owned()
        };
        if (value("ID").as_str(), value("VERSION_ID").as_str()) != ("debian", "12") {
            return Some(format!(
                "this machine runs {}; the cluster's packages are those of Debian 12 (bookworm)",
                value("PRETTY_NAME")
            ));
        }
        (self.architecture != "x86_64")
            .then(|| format!("this machine is {}; the cluster is built for x86_64", self.architecture))
    }

    fn rights(&self) -> Option<String> {
        let field = |name: &str| self.status.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, saved and file system uid, in this order (proc(5)).
        let uid = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1));
        if uid != Some("0") {
            return Some("this needs root: it starts a cluster of systemd containers; run it with sudo".to_owned());
        }
        let capabilities = field("CapEff:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let may_mount = capabilities.is_some_and(|mask| mask & (1 << CAP_SYS_ADMIN) != 0);
        (!may_mount).then(|| "root may not mount here (no CAP_SYS_ADMIN): use a machine, not a container".to_owned())
    }

    fn kernel(&self) -> Option<String> {
        if !has_overlay(&self.filesystems) {
            return Some("the kernel has no overlay file system, which every node's root is made of".to_owned());
        }
        let missing: Vec<_> = CONTROLLERS.into_iter().filter(|name| !self.has_controller(name)).collect();
        (!missing.is_empty()).then(|| format!("the kernel has no cgroup controller {}", missing.join(", ")))
    }

    /// `/proc/cgroups` has a line per controller: name, hierarchy, number of groups, enabled.
    fn has_controller(&self, name: &str) -> bool {
        self.cgroups.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.first() == Some(&name) && fields.last() == Some(&"1")
        })
    }

    fn toolchain(&self) -> Option<String> {
        let (major, minor) = GO;
        let way_out = format!("Go {major}.{minor} or newer on PATH builds Kubernetes: see https://go.dev/doc/install");
        match parse_go(&self.go) {
            None => Some(format!("there is no Go; {way_out}")),
            Some(version) if version < GO => Some(format!("this is {}; {way_out}", self.go.trim())),
            Some(_) => None,
        }
    }
}

fn has_overlay(filesystems: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay"))
}

fn go_version() -> String {
    let output = Command::new("go").args(["env", "GOVERSION"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The major and minor version in such a string as `go1.26.8`.
fn parse_go(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suitable() -> Host {
        Host {
            os_release: "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n".into(),
            status: "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff\n".into(),
            filesystems: "nodev\tproc\n\text4\nnodev\toverlay\n".into(),
            cgroups: "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\ncpu\t1\t1\t1\nmemory\t4\t13\t1\n\
                      devices\t5\t1\t1\npids\t8\t1\t1\n"
                .into(),
            go: "go1.26.8\n".into(),
            architecture: "x86_64".into(),
        }
    }

    fn reason(host: &Host) -> String {
        host.unsuitable().expect("the host is unsuitable")
    }

    #[test]
    fn a_debian_12_with_root_and_go_is_suitable() {
        assert_eq!(suitable().unsuitable(), None);
    }

    #[test]
    fn without_root_one_line_says_so() {
        let host = Host { status: "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0\n".into(), ..suitable() };
        assert!(reason(&host).contains("needs root"));
        assert_eq!(reason(&host).lines().count(), 1);
    }

    #[test]
    fn root_of_a_container_without_mounts_is_told_apart() {
        let host = Host { status: "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n".into(), ..suitable() };
        assert!(reason(&host).contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn another_system_is_named() {
        let host = Host { os_release: "ID=fedora\nVERSION_ID=43\nPRETTY_NAME=\"Fedora 43\"\n".into(), ..suitable() };
        assert!(reason(&host).contains("Fedora 43"));
    }

    #[test]
    fn a_disabled_controller_counts_as_missing() {
        let host = Host { cgroups: suitable().cgroups.replace("memory\t4\t13\t1", "memory\t4\t13\t0"), ..suitable() };
        assert!(reason(&host).ends_with("controller memory"));
    }

    #[test]
    fn an_old_go_is_named_with_the_version_that_is_needed() {
        let host = Host { go: "go1.19.8".into(), ..suitable() };
        assert!(reason(&host).contains("go1.19.8") && reason(&host).contains("1.26"));
        assert!(reason(&Host { go: String::new(), ..suitable() }).contains("no Go"));
    }
}
