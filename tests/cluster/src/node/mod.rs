//! A node: a machine nested in this one, with a systemd, a containerd and a kubelet of its own.

mod boot;
mod files;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::cgroup::Cgroup;
use crate::containerd::ContainerdVersion;
use crate::control_plane::Layout;
use crate::files::FileError;
use crate::ledger::{Ledger, Made};
use crate::network::Network;
use crate::pieces::Pieces;
use crate::pki::PkiError;
use crate::process::{ProcessId, StartError, entering};
use crate::tool::{self, ToolError};
use crate::wiring::{NetworkError, Wiring};

/// What is written down about a node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NodeRecord {
    /// Its name in Kubernetes.
    pub(crate) name: String,
    /// Its place in the cluster's addresses.
    pub(crate) index: u8,
    /// Its containerd.
    pub(crate) version: ContainerdVersion,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    cluster_folder: PathBuf,
    cluster_cgroup: Cgroup,
    network: Network,
    record: NodeRecord,
}

/// A node that could not be made, reached or removed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Its first process.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A tool of the machine.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It does not run.
    #[error("node {name} is not running; its console is in {}", console.display())]
    NotRunning {
        /// Its name.
        name: String,
        /// What it printed.
        console: PathBuf,
    },
    /// A command on it failed.
    #[error("on node {name}, `{command}` failed ({status}): {said}")]
    CommandFailed {
        /// The node's name.
        name: String,
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        said: String,
    },
    /// Something of it could not be removed.
    #[error("node {name} left behind:\n  {}", left.join("\n  "))]
    Left {
        /// Its name.
        name: String,
        /// What is still there.
        left: Vec<String>,
    },
}

impl Node {
    pub(crate) fn new(cluster_folder: &Path, cluster_cgroup: &Cgroup, network: Network, record: NodeRecord) -> Self {
        Self { cluster_folder: cluster_folder.to_owned(), cluster_cgroup: cluster_cgroup.clone(), network, record }
    }

    /// Its name, the same in Kubernetes and as host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its containerd.
    #[must_use]
    pub fn containerd_version(&self) -> ContainerdVersion {
        self.record.version
    }

    /// Its address, which this machine reaches.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.node(self.record.index)
    }

    /// Its root file system as seen from this machine. `/var/lib/containerd`, `/var/lib/kubelet` and
    /// what it mounted itself are empty here: see [`Node::containerd_folder`] and [`Node::exec`].
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Its `/var/lib/containerd` as seen from this machine.
    #[must_use]
    pub fn containerd_folder(&self) -> PathBuf {
        self.folder().join("containerd")
    }

    /// Its `/var/lib/kubelet` as seen from this machine.
    #[must_use]
    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder().join("kubelet")
    }

    /// What it printed while booting.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.folder().join("console.log")
    }

    /// Runs a command on the node, in all its namespaces and cgroups, and returns what it printed,
    /// whatever its exit status.
    ///
    /// # Errors
    /// When the node does not run, or the command could not be started.
    pub fn exec<S: AsRef<str>>(&self, words: &[S]) -> Result<Output, NodeError> {
        Ok(tool::output(&mut self.command(words)?)?)
    }

    /// Like [`Node::exec`], for a command that must succeed; returns its standard output.
    ///
    /// # Errors
    /// Also when the command fails, with what it said.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<String, NodeError> {
        let output = self.exec(words)?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(said(&output.stdout));
        }
        let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
        let said = format!("{}{}", said(&output.stdout), said(&output.stderr));
        Err(NodeError::CommandFailed {
            name: self.name().to_owned(),
            command: words.join(" "),
            status: output.status,
            said: tool::tail(&said, 20),
        })
    }

    /// A command that will run on the node; its standard streams are the caller's to set.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Result<std::process::Command, NodeError> {
        let first = self.first_process()?;
        let mut all: Vec<String> = ["nsenter", "--all", "--target", &first.to_string(), "--"].map(str::to_owned).into();
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Ok(entering(&self.cgroup().folders_of(first)?, &all, None))
    }

    /// Imports an OCI or Docker archive for the kubelet to use.
    ///
    /// # Errors
    /// When the archive cannot be read or containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<(), NodeError> {
        let file = std::fs::File::open(archive).map_err(FileError::new("open", archive))?;
        let mut command = self.command(&["ctr", "-n", "k8s.io", "images", "import", "-"])?;
        Ok(tool::run(command.stdin(file)).map(drop)?)
    }

    /// The pid, on this machine, of the node's own process 1.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn first_process(&self) -> Result<i32, NodeError> {
        let found = self.cgroup().processes()?.into_iter().find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            is_first_in_namespace(&status)
        });
        found.ok_or_else(|| self.not_running())
    }

    /// The error of a node that does not run.
    pub(crate) fn not_running(&self) -> NodeError {
        NodeError::NotRunning { name: self.name().to_owned(), console: self.console() }
    }

    /// Whether it was started and its last start came to an end.
    pub(crate) fn has_ended(&self, ledger: &Ledger) -> bool {
        let name = process_name(self.name());
        let starts = ledger.entries().into_iter().rev().find_map(|made| match made {
            Made::Process { what, id } if what == name => Some(id),
            _ => None,
        });
        starts.is_some_and(|id| !id.is_alive())
    }

    fn folder(&self) -> PathBuf {
        self.cluster_folder.join("nodes").join(&self.record.name)
    }

    fn cgroup(&self) -> Cgroup {
        self.cluster_cgroup.child(&self.record.name)
    }

    /// The file its network namespace is bound to.
    pub(crate) fn namespace(&self) -> PathBuf {
        self.cluster_folder.join("namespaces").join(&self.record.name)
    }

    pub(crate) fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Makes its network: a namespace and a cable. Its routes are the cluster's affair.
    pub(crate) fn make_network(&self, ledger: &Ledger, wiring: &Wiring) -> Result<(), NodeError> {
        ledger.note(&Made::Link { name: self.network.cable(Some(self.record.index)) })?;
        ledger.note(&Made::Mount { point: self.namespace() })?;
        Ok(wiring.make_namespace(&self.namespace(), Some(self.record.index), self.name())?)
    }

    /// Makes its files and boots it.
    pub(crate) fn boot(
        &self,
        pieces: &Pieces,
        layout: &Layout,
        server: &str,
        ledger: &Ledger,
    ) -> Result<(), NodeError> {
        files::write(self, layout, server, &self.folder().join("upper"))?;
        boot::mount_root(self, pieces, ledger)?;
        boot::start(self, pieces, ledger)
    }

    /// Ends it and removes all it had, its folder too.
    pub(crate) fn remove(&self) -> Result<(), NodeError> {
        let mut left = self.cgroup().remove();
        left.extend(crate::mounts::remove_below(&self.folder()));
        left.extend(crate::mounts::remove_below(&self.namespace()));
        left.extend(crate::network::remove_link(&self.network.cable(Some(self.record.index))));
        if !left.is_empty() {
            return Err(NodeError::Left { name: self.name().to_owned(), left });
        }
        let namespace = self.namespace();
        std::fs::remove_file(&namespace).map_err(FileError::new("remove", &namespace))?;
        Ok(crate::files::remove_folder(&self.folder())?)
    }

    /// Whether its first process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.first_process().is_ok()
    }
}

/// Whether `/proc/PID/status` is of a process that is process 1 of exactly one nested
/// namespace: containers of the node are nested twice.
fn is_first_in_namespace(status: &str) -> bool {
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let own_depth = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own_depth = own_depth.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let pids: Vec<_> = pids.split_whitespace().collect();
    pids.len() == own_depth.split_whitespace().count() + 1 && pids.last() == Some(&"1")
}

/// The process that holds a node, as the ledger names it.
pub(crate) fn process_name(name: &str) -> String {
    format!("node {name}")
}

/// Notes the process of a node.
fn note(ledger: &Ledger, name: &str, id: ProcessId) -> Result<(), FileError> {
    ledger.note(&Made::Process { what: process_name(name), id })
}
