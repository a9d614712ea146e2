//! Cgroups of our own in every hierarchy of the machine: they hold a cluster's processes, so
//! that ending all of them needs no list of pids.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::files::{self, FileError};
use crate::mounts;

/// Where the hierarchies are mounted, by systemd's convention.
const MOUNTS: &str = "/sys/fs/cgroup";

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cgroup of the same path in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// The path below each hierarchy's root, such as `kwasm-demo/node`.
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at this path below the roots; it need not exist.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// One below this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Makes it in every hierarchy. The one above must exist, or be a root.
    pub(crate) fn make(&self) -> Result<(), FileError> {
        for root in hierarchies()? {
            let folder = root.join(&self.path);
            files::make_folder(&folder)?;
            let parent = folder.parent().unwrap_or(&root);
            // A new cpuset is empty, and no process may enter an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(parent, &folder, file)?;
            }
            pass_controllers(parent);
        }
        Ok(())
    }

    /// Its folders in all hierarchies that have it.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>, FileError> {
        Ok(hierarchies()?.into_iter().map(|root| root.join(&self.path)).filter(|folder| folder.is_dir()).collect())
    }

    /// The processes in it and below it.
    pub(crate) fn processes(&self) -> Result<BTreeSet<i32>, FileError> {
        let mut pids = BTreeSet::new();
        for folder in self.folders()? {
            for cgroup in depth_first(&folder) {
                // One that vanishes meanwhile holds nothing.
                let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            }
        }
        Ok(pids)
    }

    /// The cgroups, in it or below it, that hold a process: one folder per hierarchy.
    pub(crate) fn folders_of(&self, pid: i32) -> Result<Vec<PathBuf>, FileError> {
        let pid = pid.to_string();
        let holds = |cgroup: &PathBuf| {
            let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            pids.lines().any(|line| line == pid)
        };
        Ok(self.folders()?.iter().filter_map(|folder| depth_first(folder).into_iter().find(holds)).collect())
    }

    /// Kills everything in it, waits until that is gone, and removes it with all below it.
    /// Returns what stayed.
    pub(crate) fn remove(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let errors = self.try_remove();
            if errors.is_empty() || Instant::now() >= deadline {
                return errors;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_remove(&self) -> Vec<String> {
        let (folders, pids) = match self.folders().and_then(|folders| Ok((folders, self.processes()?))) {
            Ok(found) => found,
            Err(error) => return vec![error.to_string()],
        };
        for folder in &folders {
            thaw(folder);
        }
        for pid in &pids {
            self.kill(*pid);
        }
        let mut errors = Vec::new();
        for cgroup in folders.iter().flat_map(|folder| depth_first(folder)) {
            if let Err(error) = std::fs::remove_dir(&cgroup)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                errors.push(format!("cgroup {}: {error}{}", cgroup.display(), holders(&cgroup)));
            }
        }
        errors
    }

    /// Kills a process if it is (still) one of ours: the descriptor is taken first, so that a
    /// reused pid cannot be hit.
    fn kill(&self, pid: i32) {
        let Some(pid) = Pid::from_raw(pid) else { return };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if is_member(&own, &self.path) {
            // It may have ended by itself just now.
            let _ = pidfd_send_signal(descriptor, Signal::KILL);
        }
    }
}

/// Whether a process whose `/proc/PID/cgroup` reads so is in `path` or below it in any hierarchy.
fn is_member(text: &str, path: &Path) -> bool {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(|own| Path::new(own).strip_prefix("/").ok()).any(|own| own.starts_with(path))
}

/// The roots of all mounted hierarchies, of version 1 and 2.
fn hierarchies() -> Result<Vec<PathBuf>, FileError> {
    let mounts = mounts::all()?.into_iter();
    let ours = mounts.filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"));
    let mut roots: Vec<_> = ours.map(|mount| mount.point).filter(|point| point.starts_with(MOUNTS)).collect();
    roots.sort();
    roots.dedup();
    Ok(roots)
}

/// Copies a setting from the cgroup above, where the hierarchy has it and it is empty.
fn inherit(parent: &Path, folder: &Path, file: &str) -> Result<(), FileError> {
    let target = folder.join(file);
    let is_empty = std::fs::read_to_string(&target).is_ok_and(|text| text.trim().is_empty());
    // In version 2 empty means "as above" already.
    if !is_empty || folder.join("cgroup.controllers").exists() {
        return Ok(());
    }
    files::write(&target, files::read(&parent.join(file))?)
}

/// In version 2 a cgroup has the controllers that the one above passes on.
fn pass_controllers(parent: &Path) {
    let Ok(controllers) = std::fs::read_to_string(parent.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        // Some cannot be passed on (a real-time task, a threaded parent); nodes do without.
        let _ = std::fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A frozen process does not die before it thaws.
fn thaw(folder: &Path) {
    for cgroup in depth_first(folder) {
        let state = cgroup.join("freezer.state");
        if state.exists() {
            // It may vanish meanwhile.
            let _ = std::fs::write(state, "THAWED");
        }
    }
}

/// A folder and all below it, the deepest first.
fn depth_first(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(depth_first(&entry.path()));
    }
    found.push(folder.to_owned());
    found
}

/// Who is in a cgroup that cannot be removed, for the message.
fn holders(cgroup: &Path) -> String {
    let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let named = pids.lines().map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} {}", name.trim())
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() { String::new() } else { format!(" (held by {})", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::is_member;

    #[test]
    fn a_process_below_the_cgroup_is_a_member() {
        assert!(is_member("4:memory:/kwasm-a/node/kubepods\n1:cpu:/\n", Path::new("kwasm-a")));
    }

    #[test]
    fn a_process_of_a_cluster_with_a_longer_name_is_no_member() {
        assert!(!is_member("4:memory:/kwasm-a2/node\n0::/\n", Path::new("kwasm-a")));
    }
}
