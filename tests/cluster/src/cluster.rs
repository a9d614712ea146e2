//! A whole cluster: made, changed, looked at and removed.

mod error;
mod make;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use error::ClusterError;

use crate::cgroup::Cgroup;
use crate::collect;
use crate::control_plane::{self, ControlPlane, Layout};
use crate::files::{self, FileError};
use crate::ledger::Ledger;
use crate::names::ClusterName;
use crate::network::Network;
use crate::node::{Node, NodeRecord};
use crate::pieces;
use crate::preflight;
use crate::registry::{self, Claim, RegistryError};
use crate::session::Session;
use crate::tool;
use crate::wiring::Wiring;

/// A running cluster. Dropping it leaves it running: see [`Cluster::down`].
#[derive(Clone)]
pub struct Cluster {
    name: ClusterName,
    folder: PathBuf,
    network: Network,
    session: Session,
}

impl Cluster {
    /// The cluster of this name.
    ///
    /// # Errors
    /// When there is none, or its making was cut short.
    pub fn open(name: &ClusterName, session: &Session) -> Result<Self, ClusterError> {
        let folder = registry::folder(name)?;
        if !folder.is_dir() {
            return Err(RegistryError::Unknown(name.clone()).into());
        }
        let network = registry::network(&folder).ok_or_else(|| ClusterError::NotWhole(name.clone()))?;
        Ok(Self { name: name.clone(), folder, network, session: session.clone() })
    }

    /// Removes the cluster of this name, whole or not, and waits until all of it is gone. False
    /// if there is none.
    ///
    /// # Errors
    /// When something could not be removed; the message lists it, and trying again is safe.
    pub fn down(name: &ClusterName, session: &Session) -> Result<bool, ClusterError> {
        preflight::check_root()?;
        match registry::claim(name) {
            Err(RegistryError::Unknown(_)) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(claim) => {
                session.say(format!("removing cluster {name}"));
                remove(claim)?;
                session.say(format!("cluster {name} is gone"));
                Ok(true)
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Its folder, which holds all of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// This machine's address on the cluster's network: what nodes and pods reach it by.
    #[must_use]
    pub fn machine_address(&self) -> std::net::Ipv4Addr {
        self.network.machine()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout().kubeconfig("admin")
    }

    /// Where the API server writes its audit log, one JSON object per line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.layout().logs().join("audit.log")
    }

    /// Runs kubectl as administrator and returns what it printed, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl<S: AsRef<str>>(&self, words: &[S]) -> Result<Output, ClusterError> {
        let mut command = self.kubectl_command()?;
        Ok(tool::output(command.args(words.iter().map(AsRef::as_ref)))?)
    }

    /// A kubectl command as administrator, for the caller to start.
    pub(crate) fn kubectl_command(&self) -> Result<Command, ClusterError> {
        Ok(control_plane::kubectl(&pieces::hyperkube(&self.session)?, &self.kubeconfig()))
    }

    /// Runs helm as administrator and returns what it printed, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn helm<S: AsRef<str>>(&self, words: &[S]) -> Result<Output, ClusterError> {
        let mut command = tool::command(pieces::helm(&self.session)?, words.iter().map(AsRef::as_ref));
        command.env("KUBECONFIG", self.kubeconfig());
        // Its own folders, so that what a person configured at home plays no part.
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.folder.join("helm").join(folder));
        }
        Ok(tool::output(&mut command)?)
    }

    /// Its nodes, in the order they were added.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>, ClusterError> {
        let mut records = Vec::new();
        for folder in files::list(&self.folder.join("nodes"))? {
            let text = std::fs::read_to_string(folder.join("node.json")).unwrap_or_default();
            records.extend(serde_json::from_str::<NodeRecord>(&text).ok());
        }
        records.sort_by_key(|record| record.index);
        Ok(records.into_iter().map(|record| self.node_of(record)).collect())
    }

    /// The node that `wanted` means: its name, the end of its name, or its containerd version if
    /// just one node has that.
    ///
    /// # Errors
    /// When none or several match.
    pub fn node(&self, wanted: &str) -> Result<Node, ClusterError> {
        let nodes = self.nodes()?;
        let known = nodes.iter().map(|node| node.name().to_owned()).collect();
        let ending = format!("-{wanted}");
        let is_exact = |node: &&Node| node.name() == wanted;
        let is_meant = |node: &&Node| node.name().ends_with(&ending) || node.containerd_version().as_str() == wanted;
        let mut meant = nodes.iter().filter(is_meant);
        let found = nodes.iter().find(is_exact).or_else(|| meant.next().filter(|_| meant.next().is_none()));
        let unknown = || ClusterError::UnknownNode { cluster: self.name.clone(), node: wanted.to_owned(), known };
        found.cloned().ok_or_else(unknown)
    }

    /// Removes a node: from Kubernetes, then from the machine.
    ///
    /// # Errors
    /// When something of it could not be removed.
    pub fn remove_node(&self, node: &Node) -> Result<(), ClusterError> {
        let _claim = registry::claim(&self.name)?;
        self.take_out(node)
    }

    fn take_out(&self, node: &Node) -> Result<(), ClusterError> {
        node.remove()?;
        let index = node.record().index;
        for namespace in self.namespaces()?.iter().map(|path| Some(path.as_path())).chain([None]) {
            self.wiring().remove_route(namespace, index)?;
        }
        self.kubectl(&["delete", "node", "--ignore-not-found", node.name()])?;
        Ok(())
    }

    /// Copies the logs, events and objects into `folder` and returns it. What cannot be had is
    /// noted in the folder, and is no error.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn collect(&self, folder: &Path) -> Result<PathBuf, ClusterError> {
        collect::collect(self, &self.layout().logs(), folder)?;
        Ok(folder.to_owned())
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::of(&self.folder)
    }

    fn layout(&self) -> Layout {
        Layout { folder: self.folder.clone(), network: self.network }
    }

    fn cgroup(&self) -> Cgroup {
        registry::cgroup(&self.name)
    }

    fn wiring(&self) -> Wiring {
        Wiring { network: self.network, cgroup: self.cgroup().child(CONTROL_PLANE) }
    }

    fn control_plane<'a>(&'a self, hyperkube: &'a Path) -> ControlPlane<'a> {
        let cgroup = self.cgroup().child(CONTROL_PLANE);
        ControlPlane { folder: &self.folder, name: self.name.as_str(), hyperkube, network: self.network, cgroup }
    }

    fn node_of(&self, record: NodeRecord) -> Node {
        Node::new(&self.folder, &self.cgroup(), self.network, record)
    }

    fn namespaces(&self) -> Result<Vec<PathBuf>, FileError> {
        files::list(&self.folder.join("namespaces"))
    }
}

const CONTROL_PLANE: &str = "control-plane";

fn remove(claim: Claim) -> Result<(), ClusterError> {
    let left = Ledger::of(&claim.folder).undo(&claim.folder);
    if !left.is_empty() {
        return Err(ClusterError::Left { name: claim.name.clone(), left });
    }
    Ok(claim.remove()?)
}
