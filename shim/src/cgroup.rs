//! A container's cgroup: made before its process does anything, gone when the container is deleted.
//!
//! [`hierarchy`] finds out what the host has, [`path`] translates the specification's path, [`limits`] decides
//! which files get which values, [`metrics`] reads usage for containerd; [`scope`] has systemd make it where systemd owns the tree.

mod hierarchy;
mod limits;
mod metrics;
mod path;
mod scope;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use hierarchy::{Controller, Hierarchy};
pub(crate) use path::InvalidCgroupPath;
pub(crate) use scope::ScopeError;

use crate::reaper::Reaper;
use crate::spec::Resources;
use limits::Setting;
use path::CgroupPath;
use scope::{Limits, Scope};

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// The path of the specification makes no sense.
    #[error(transparent)]
    Path(#[from] InvalidCgroupPath),
    /// A file or folder of the cgroup file system refused.
    #[error("{action} {path}: {error}")]
    Io { action: &'static str, path: PathBuf, error: io::Error },
    /// A limit needs a controller that the host does not have.
    #[error(
        "the container's limit {file}={value} needs the cgroup controller {controller}, which this node has not mounted"
    )]
    NoController { controller: Controller, file: String, value: String },
    /// Processes survive SIGKILL, as in an uninterruptible wait for a disk.
    #[error("the cgroup {path} still has processes {pids:?} that do not end")]
    Busy { path: PathBuf, pids: Vec<i32> },
}

/// The cgroup of one container, in each hierarchy of the host.
#[derive(Debug)]
pub(crate) struct Cgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
    scope: Option<Scope>,
}

impl Cgroup {
    /// The cgroup that the specification's `cgroups_path` means on this host; nothing is created. An empty path is
    /// `/<namespace>/<id>`, as runc has it.
    ///
    /// # Errors
    /// If the path is none, or the host's mounts cannot be read.
    pub(crate) fn of(cgroups_path: &str, namespace: &str, id: &str) -> Result<Self, CgroupError> {
        let mounts = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(mounts).map_err(at("reading", mounts))?;
        let own = format!("/{namespace}/{id}");
        let CgroupPath { folder, scope } = path::parse(if cgroups_path.is_empty() { &own } else { cgroups_path })?;
        Ok(Self { hierarchy: Hierarchy::parse(&text), path: folder, scope })
    }

    /// A cgroup of version 1 below a folder of a test, with the freezer alone.
    #[cfg(test)]
    pub(crate) fn in_test(root: &Path, path: &str) -> Self {
        let mounts = format!("30 25 0:27 / {} rw - cgroup cgroup rw,freezer\n", root.display());
        let cgroup = Self { hierarchy: Hierarchy::parse(&mounts), path: path.into(), scope: None };
        cgroup.dirs().for_each(|dir| fs::create_dir_all(dir).unwrap());
        cgroup
    }

    /// Has systemd make the cgroup around a process, where systemd owns the tree; elsewhere there is nothing to do. What
    /// systemd does not make, [`Cgroup::create`] does.
    ///
    /// # Errors
    /// If systemd does not make it.
    pub(crate) async fn start_scope(&self, pid: Pid, resources: &Resources, reaper: &Reaper) -> Result<(), ScopeError> {
        match &self.scope {
            Some(scope) => scope.start(pid, &self.path, self.limits(resources), reaper).await,
            None => Ok(()),
        }
    }

    /// Tells systemd new limits, where it owns the tree.
    ///
    /// # Errors
    /// If systemd does not take them.
    pub(crate) async fn update_scope(&self, resources: &Resources, reaper: &Reaper) -> Result<(), ScopeError> {
        match &self.scope {
            Some(scope) => scope.update(self.limits(resources), reaper).await,
            None => Ok(()),
        }
    }

    fn limits<'a>(&self, resources: &'a Resources) -> Limits<'a> {
        Limits { resources, unified: self.hierarchy.is_unified() }
    }

    /// Creates the cgroup, as far as it is not there, sets its limits, and moves a process into it.
    ///
    /// # Errors
    /// If a folder or a limit is refused.
    pub(crate) fn create(&self, pid: Pid, resources: &Resources) -> Result<(), CgroupError> {
        for root in self.hierarchy.roots() {
            self.create_under(root)?;
        }
        self.update(resources)?;
        self.add(pid)
    }

    fn create_under(&self, root: &Path) -> Result<(), CgroupError> {
        let mut dir = root.to_path_buf();
        for part in &self.path {
            if self.hierarchy.is_unified() {
                enable_controllers(&dir);
            }
            let parent = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => created.map_err(at("creating the cgroup", &dir))?,
            }
            // A new folder of the v1 controller cpuset has no processors and takes no process.
            inherit_if_empty(&parent, &dir, "cpuset.cpus");
            inherit_if_empty(&parent, &dir, "cpuset.mems");
        }
        Ok(())
    }

    /// Sets limits; what `resources` does not name stays.
    ///
    /// # Errors
    /// The first limit that is refused.
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        let settings = if self.hierarchy.is_unified() { limits::v2(resources) } else { limits::v1(resources) };
        settings.into_iter().try_for_each(|setting| self.set(setting))
    }

    fn set(&self, setting: Setting) -> Result<(), CgroupError> {
        let Setting { controller, file, value, optional } = setting;
        let Some(dir) = self.dir(controller) else {
            return if optional { Ok(()) } else { Err(CgroupError::NoController { controller, file, value }) };
        };
        let path = dir.join(file);
        match fs::write(&path, value) {
            Err(_) if optional => Ok(()),
            written => written.map_err(at("setting the limit", &path)),
        }
    }

    fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        self.dirs().try_for_each(|dir| {
            let procs = dir.join("cgroup.procs");
            fs::write(&procs, pid.to_string()).map_err(at("moving the container's process to", &procs))
        })
    }

    /// The processes in the cgroup, as this process sees them.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let texts = self.dirs().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        let pids: BTreeSet<i32> =
            texts.flat_map(|text| text.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
        pids.into_iter().filter(|pid| *pid > 0).collect()
    }

    /// Kills what is in the cgroup, waits up to `patience` for it to be gone, and removes the cgroup. A cgroup that
    /// does not exist is removed already.
    ///
    /// # Errors
    /// If processes remain, or a folder cannot be removed.
    pub(crate) fn kill_and_remove(&self, patience: Duration) -> Result<(), CgroupError> {
        let end = Instant::now() + patience;
        // What is frozen does not die.
        let _ = self.freeze(false);
        loop {
            for pid in self.pids() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            match self.remove() {
                Err(CgroupError::Io { .. }) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                Err(CgroupError::Io { path, error, .. }) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    return Err(CgroupError::Busy { path, pids: self.pids() });
                }
                removed => return removed,
            }
        }
    }

    /// Removes the empty cgroup.
    ///
    /// # Errors
    /// If it is not empty.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        self.dirs().try_for_each(|dir| match fs::remove_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(at("removing the cgroup", &dir)),
        })
    }

    /// Stops or continues all processes in the cgroup.
    ///
    /// # Errors
    /// If the host has no freezer, or it refuses.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let (file, value) = match (self.hierarchy.is_unified(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        self.set(Setting::new(Controller::Freezer, file, value))
    }

    /// How many processes the kernel has killed in the cgroup because memory was short.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.hierarchy.is_unified() { "memory.events" } else { "memory.oom_control" };
        let text = self.dir(Controller::Memory).and_then(|dir| fs::read_to_string(dir.join(file)).ok());
        metrics::Flat::parse(&text.unwrap_or_default()).get("oom_kill")
    }

    /// What the container uses, in the message that belongs to the host's version of cgroups.
    pub(crate) fn metrics(&self) -> Any {
        let read = |controller: Controller, file: &str| {
            self.dir(controller).and_then(|dir| fs::read_to_string(dir.join(file)).ok()).unwrap_or_default()
        };
        if self.hierarchy.is_unified() { metrics::v2(read) } else { metrics::v1(read) }
    }

    fn dir(&self, controller: Controller) -> Option<PathBuf> {
        Some(self.hierarchy.root(controller)?.join(&self.path))
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.hierarchy.roots().map(|root| root.join(&self.path))
    }
}

/// Lets the folders below `dir` limit what is worth limiting, as far as the host allows it.
fn enable_controllers(dir: &Path) {
    for controller in ["+cpuset", "+cpu", "+io", "+memory", "+hugetlb", "+pids"] {
        let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
    }
}

fn inherit_if_empty(parent: &Path, dir: &Path, file: &str) {
    if fs::read_to_string(dir.join(file)).is_ok_and(|own| own.trim().is_empty())
        && let Ok(value) = fs::read_to_string(parent.join(file))
    {
        let _ = fs::write(dir.join(file), value.trim());
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_path_buf();
    move |error| CgroupError::Io { action, path, error }
}
