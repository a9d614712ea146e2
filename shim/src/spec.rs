//! What of a bundle's `config.json` (OCI runtime specification 1.x) counts here.
//!
//! Only the fields that are used are read, and closed sets stay open: a value that a later specification adds must not keep a
//! container from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod resources;

pub(crate) use resources::{Cpu, Memory, Pids, Resources};

/// Annotation of CRI: `sandbox` or `container`.
pub(crate) const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Annotation of CRI: the id of the pod's sandbox.
pub(crate) const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// A container's specification.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    /// The specification's version, for hooks.
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: String,
    /// Programs to run beside the container.
    pub(crate) hooks: Hooks,
    /// What to run, and as whom.
    pub(crate) process: Process,
    /// The container's root.
    pub(crate) root: Root,
    /// The name of a UTS namespace of the container's own.
    pub(crate) hostname: String,
    /// What is mounted over the root, in this order.
    pub(crate) mounts: Vec<Mount>,
    /// Annotations, CRI's among them.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What only Linux has.
    pub(crate) linux: Linux,
}

/// Programs to run on the host while the container is created. Those of other moments, and in the container, are not run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Hooks {
    /// The older name of the moment, which Docker 26 uses.
    pub(crate) prestart: Vec<Hook>,
    /// After the namespaces were made.
    pub(crate) create_runtime: Vec<Hook>,
}

/// One program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hook {
    /// Its file on the host.
    pub(crate) path: PathBuf,
    /// Its arguments, its own name the first.
    pub(crate) args: Vec<String>,
    /// All of its environment, `KEY=value`.
    pub(crate) env: Vec<String>,
    /// How long it may take, in seconds.
    pub(crate) timeout: Option<u64>,
}

/// What to run, and as whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Process {
    /// Whether it wants a terminal.
    pub(crate) terminal: bool,
    /// The user.
    pub(crate) user: User,
    /// The program and its arguments.
    pub(crate) args: Vec<String>,
    /// The environment, `KEY=value`.
    pub(crate) env: Vec<String>,
    /// The working folder, absolute.
    pub(crate) cwd: String,
    /// POSIX resource limits.
    pub(crate) rlimits: Vec<Rlimit>,
    /// For the kernel's choice of whom to kill when memory is short.
    pub(crate) oom_score_adj: Option<i32>,
}

/// Numeric user and groups.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct User {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// More groups.
    pub(crate) additional_gids: Vec<u32>,
    /// The mask of new files' modes.
    pub(crate) umask: Option<u32>,
}

/// One POSIX resource limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// Such as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The limit in force.
    pub(crate) soft: u64,
    /// How far it may be raised.
    pub(crate) hard: u64,
}

/// The container's root.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Root {
    /// Absolute, or relative to the bundle.
    pub(crate) path: PathBuf,
    /// Whether the container may not write to it.
    pub(crate) readonly: bool,
}

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mount {
    /// Where, in the container.
    pub(crate) destination: PathBuf,
    /// The type of file system; empty or `bind` for a bind mount.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What.
    pub(crate) source: PathBuf,
    /// As of mount(8).
    pub(crate) options: Vec<String>,
}

/// What only Linux has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    /// The container's cgroup, in the form of its cgroup driver.
    pub(crate) cgroups_path: String,
    /// Its limits.
    pub(crate) resources: Resources,
    /// Namespaces to create or to join.
    pub(crate) namespaces: Vec<Namespace>,
    /// Kernel parameters of those namespaces.
    pub(crate) sysctl: BTreeMap<String, String>,
    /// Device files besides the usual ones.
    pub(crate) devices: Vec<Device>,
    /// Paths that the container must not read.
    pub(crate) masked_paths: Vec<PathBuf>,
    /// Paths that the container must not write.
    pub(crate) readonly_paths: Vec<PathBuf>,
}

/// A namespace to create, or to join if it has a path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Namespace {
    /// What it is a namespace of.
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    /// The namespace to join.
    #[serde(default)]
    pub(crate) path: PathBuf,
}

/// What a namespace is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    /// Control groups.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network devices, addresses, ports.
    Network,
    /// Process ids.
    Pid,
    /// Clocks.
    Time,
    /// Users and groups.
    User,
    /// The host's name.
    Uts,
    /// Of a later specification.
    #[serde(untagged)]
    Other(String),
}

/// A device file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// Where, in the container.
    pub(crate) path: PathBuf,
    /// What it is.
    #[serde(rename = "type")]
    pub(crate) kind: DeviceKind,
    /// Major number.
    #[serde(default)]
    pub(crate) major: u32,
    /// Minor number.
    #[serde(default)]
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) file_mode: Option<u32>,
    /// Owner.
    #[serde(default)]
    pub(crate) uid: u32,
    /// Group.
    #[serde(default)]
    pub(crate) gid: u32,
}

/// What a device file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    /// A block device.
    #[serde(rename = "b")]
    Block,
    /// A character device, buffered or not.
    #[serde(rename = "c", alias = "u")]
    Character,
    /// A named pipe.
    #[serde(rename = "p")]
    Fifo,
    /// Of a later specification.
    #[serde(untagged)]
    Other(String),
}

/// What part a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It holds the pod's namespaces.
    Sandbox,
    /// It runs a program.
    Guest,
}

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// It is not there or cannot be read.
    #[error("reading the container's specification {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    /// It is no OCI runtime specification.
    #[error("the container's specification {path} is not an OCI runtime specification: {error}")]
    Parse { path: PathBuf, error: serde_json::Error },
}

impl Spec {
    /// Reads the specification of the bundle in this folder.
    ///
    /// # Errors
    /// If it is missing or no OCI specification.
    pub(crate) fn of_bundle(bundle: &Path) -> Result<Self, SpecError> {
        let path = bundle.join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) => return Err(SpecError::Read { path, error }),
        };
        serde_json::from_slice(&text).map_err(|error| SpecError::Parse { path, error })
    }

    /// The part this container has in its pod.
    pub(crate) fn role(&self) -> Role {
        match self.annotations.get(CONTAINER_TYPE).map(String::as_str) {
            Some("sandbox") => Role::Sandbox,
            _ => Role::Guest,
        }
    }

    /// What the containers of one shim have in common: the pod's sandbox id, or the container's own id.
    pub(crate) fn group<'a>(&'a self, id: &'a str) -> &'a str {
        self.annotations.get(SANDBOX_ID).map_or(id, String::as_str)
    }

    /// The namespace of this kind, if the container does not share the host's.
    pub(crate) fn namespace(&self, kind: &NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == *kind)
    }

    /// The value of an environment variable.
    pub(crate) fn env(&self, key: &str) -> Option<&str> {
        self.process.env.iter().rev().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests;
