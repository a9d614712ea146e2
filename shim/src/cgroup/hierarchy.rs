//! Which cgroup file systems the host has mounted.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// A controller that is read or written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    /// Shares and quota.
    Cpu,
    /// Usage (version 1 only; part of `cpu` in version 2).
    Cpuacct,
    /// Placement.
    Cpuset,
    /// Stopping and continuing (a core file in version 2).
    Freezer,
    /// Memory.
    Memory,
    /// Processes.
    Pids,
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Freezer => "freezer",
            Self::Memory => "memory",
            Self::Pids => "pids",
        })
    }
}

/// The host's cgroup file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Version 1, also beside a version 2 without controllers ("hybrid"): a folder for each set of controllers.
    V1(Vec<Mounted>),
    /// Version 2.
    V2(PathBuf),
}

/// One file system of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    controllers: Vec<String>,
    root: PathBuf,
}

/// Options of a version 1 mount that are no controllers.
const NO_CONTROLLERS: [&str; 7] = ["rw", "ro", "xattr", "noprefix", "clone_children", "all", "none"];

impl Hierarchy {
    /// Reads the text of `/proc/self/mountinfo` (proc(5)).
    pub(crate) fn parse(mountinfo: &str) -> Self {
        let mut seen = BTreeSet::new();
        let (mut v1, mut v2) = (Vec::new(), None);
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let (Some(root), mut after) = (before.split(' ').nth(4), after.split(' ')) else { continue };
            match (after.next(), after.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    let controllers: Vec<String> = controllers(options).map(str::to_owned).collect();
                    // A bind mount of one hierarchy elsewhere is the same hierarchy.
                    if seen.insert(controllers.clone()) {
                        v1.push(Mounted { controllers, root: root.into() });
                    }
                }
                (Some("cgroup2"), _) if v2.is_none() => v2 = Some(PathBuf::from(root)),
                _ => {}
            }
        }
        let has_controllers =
            v1.iter().any(|mounted| mounted.controllers.iter().any(|name| !name.starts_with("name=")));
        match v2 {
            Some(root) if !has_controllers => Self::V2(root),
            _ => Self::V1(v1),
        }
    }

    /// Whether it is version 2.
    pub(crate) fn is_unified(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    /// The folder in which the controller's cgroups are, if the host has it.
    pub(crate) fn root(&self, controller: Controller) -> Option<&Path> {
        match self {
            Self::V2(root) => Some(root),
            Self::V1(mounted) => {
                let name = controller.to_string();
                let found = mounted.iter().find(|mounted| mounted.controllers.contains(&name));
                found.map(|mounted| mounted.root.as_path())
            }
        }
    }

    /// All folders in which a container has a cgroup.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Path> {
        let (one, many) = match self {
            Self::V2(root) => (Some(root.as_path()), [].as_slice()),
            Self::V1(mounted) => (None, mounted.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|mounted| mounted.root.as_path()))
    }
}

fn controllers(options: &str) -> impl Iterator<Item = &str> {
    options
        .split(',')
        .filter(|option| !NO_CONTROLLERS.contains(option) && (option.starts_with("name=") || !option.contains('=')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
31 25 0:28 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
32 25 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
33 25 0:30 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw
34 25 0:28 / /mnt/again rw shared:10 - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_host_is_version_1_in_all_its_hierarchies() {
        let hierarchy = Hierarchy::parse(HYBRID);
        assert!(!hierarchy.is_unified());
        let roots: Vec<_> = hierarchy.roots().collect();
        let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"];
        assert_eq!(roots, expected.map(Path::new));
        assert_eq!(hierarchy.root(Controller::Cpuacct), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(hierarchy.root(Controller::Pids), None);
    }

    #[test]
    fn a_host_with_cgroup2_alone_is_version_2() {
        let hierarchy =
            Hierarchy::parse("30 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(hierarchy, Hierarchy::V2("/sys/fs/cgroup".into()));
    }
}
