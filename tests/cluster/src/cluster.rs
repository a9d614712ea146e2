//! A whole cluster: made, changed, looked at and removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::collect::{self, CollectError};
use crate::containerd::ContainerdVersion;
use crate::control_plane::{self, ControlPlane, ControlPlaneError, Layout};
use crate::files::{self, FileError};
use crate::ledger::{Ledger, Made};
use crate::names::ClusterName;
use crate::network::{self, Network};
use crate::node::{Node, NodeError, NodeRecord};
use crate::pieces::{self, PieceError, Pieces};
use crate::preflight::{self, PreflightError};
use crate::registry::{self, Claim, RegistryError};
use crate::session::{Session, WaitError};
use crate::tool::{self, ToolError};
use crate::wiring::{NetworkError, Wiring};

/// How long nodes may take from their start until they are ready; 20 s is usual for three.
const PATIENCE: Duration = Duration::from_secs(180);

/// A cluster that could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The machine cannot hold one.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Something it is made of.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// Its name or place.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its control plane.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A tool.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It did not become ready, or a signal came.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Its logs could not be collected.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// There is no such node.
    #[error("cluster `{cluster}` has no node `{node}`; it has {}", known.join(", "))]
    UnknownNode {
        /// The cluster.
        cluster: ClusterName,
        /// What was asked for.
        node: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It is full.
    #[error("cluster `{0}` cannot have more than {max} nodes", max = network::NODES)]
    Full(ClusterName),
    /// Something of it could not be removed.
    #[error("cluster `{name}` left behind:\n  {}\nend what holds these, then run `cluster down --name {name}` again", left.join("\n  "))]
    Left {
        /// Its name.
        name: ClusterName,
        /// What is still there.
        left: Vec<String>,
    },
    /// It was never finished.
    #[error("cluster `{0}` is not whole (its making was cut short): remove it with `cluster down --name {0}`")]
    NotWhole(ClusterName),
}

/// A running cluster. Dropping it leaves it running: see [`Cluster::down`].
#[derive(Clone)]
pub struct Cluster {
    name: ClusterName,
    folder: PathBuf,
    network: Network,
    session: Session,
}

impl Cluster {
    /// Makes a cluster with one node per version, and waits until all are ready. When that fails
    /// or is interrupted, all of it is removed again (and the logs are collected first, unless
    /// interrupted).
    ///
    /// # Errors
    /// When the machine cannot hold a cluster, a piece cannot be made, or something does not start.
    pub fn up(name: &ClusterName, versions: &[ContainerdVersion], session: &Session) -> Result<Self, ClusterError> {
        preflight::check()?;
        let pieces = Pieces::prepare(versions, session)?;
        session.check()?;
        let (claim, network) = registry::claim_new(name)?;
        let cluster = Self { name: name.clone(), folder: claim.folder.clone(), network, session: session.clone() };
        match cluster.make(versions, &pieces) {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.give_up(&error, claim);
                Err(error)
            }
        }
    }

    fn give_up(&self, error: &ClusterError, claim: Claim) {
        let session = self.session.uninterrupted();
        if !self.session.is_interrupted() {
            session.say(format!("failed: {error}"));
            let folder = std::env::temp_dir().join(format!("kwasm-cluster-{}-{}", self.name, std::process::id()));
            if self.collect(&folder).is_ok() {
                session.say(format!("logs are in {}", folder.display()));
            }
        }
        session.say("removing what was made");
        if let Err(error) = remove(claim) {
            session.say(error.to_string());
        }
    }

    fn make(&self, versions: &[ContainerdVersion], pieces: &Pieces) -> Result<(), ClusterError> {
        let ledger = self.ledger();
        let session = &self.session;
        session.say(format!("cluster {}: network {}", self.name, self.network.bridge()));
        self.make_cgroup_and_network(&ledger)?;
        let control_plane = self.control_plane(&pieces.hyperkube);
        control_plane.write_files()?;
        session.check()?;
        session.say("starting etcd and kube-apiserver");
        control_plane.start_api(&ledger)?;
        let mut nodes = Vec::new();
        for version in versions {
            session.check()?;
            let node = self.new_node(*version)?;
            session.say(format!("booting {} (containerd {version})", node.name()));
            self.boot(&node, pieces, &ledger)?;
            nodes.push(node);
        }
        control_plane.finish(&ledger, session)?;
        session.say("the API server is ready");
        self.wait_for_nodes(&nodes)?;
        self.wait_for_service_account()?;
        files::write(&self.folder.join("whole"), "")?;
        session.say(format!("cluster {} is up; KUBECONFIG={}", self.name, self.kubeconfig().display()));
        Ok(())
    }

    fn make_cgroup_and_network(&self, ledger: &Ledger) -> Result<(), ClusterError> {
        let cgroup = self.cgroup();
        ledger.note(&Made::Cgroup { path: format!("kwasm-{}", self.name).into() })?;
        cgroup.make()?;
        cgroup.child(CONTROL_PLANE).make()?;
        ledger.note(&Made::Link { name: self.network.bridge() })?;
        let wiring = self.wiring();
        wiring.make_bridge(self.name.as_str())?;
        ledger.note(&Made::Link { name: self.network.cable(None) })?;
        let namespace = self.layout().namespace();
        ledger.note(&Made::Mount { point: namespace.clone() })?;
        Ok(wiring.make_namespace(&namespace, None, self.name.as_str())?)
    }

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

    /// Adds a node and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; it is removed again then.
    pub fn add_node(&self, version: ContainerdVersion) -> Result<Node, ClusterError> {
        let _claim = registry::claim(&self.name)?;
        let pieces = Pieces::prepare(&[version], &self.session)?;
        let node = self.new_node(version)?;
        self.session.say(format!("booting {} (containerd {version})", node.name()));
        let made =
            self.boot(&node, &pieces, &self.ledger()).and_then(|()| self.wait_for_nodes(std::slice::from_ref(&node)));
        if let Err(error) = made {
            self.take_out(&node)?;
            return Err(error);
        }
        Ok(node)
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

    fn new_node(&self, version: ContainerdVersion) -> Result<Node, ClusterError> {
        let nodes = self.nodes()?;
        let records: Vec<_> = nodes.iter().map(Node::record).collect();
        let record = next_record(&self.name, version, &records).ok_or_else(|| ClusterError::Full(self.name.clone()))?;
        let folder = self.folder.join("nodes").join(&record.name);
        let text = serde_json::to_string(&record).unwrap_or_default();
        files::write(&folder.join("node.json"), text)?;
        Ok(self.node_of(record))
    }

    fn boot(&self, node: &Node, pieces: &Pieces, ledger: &Ledger) -> Result<(), ClusterError> {
        node.make_network(ledger, &self.wiring())?;
        let index = node.record().index;
        let others: Vec<_> = self.nodes()?.iter().map(|node| node.record().index).filter(|i| *i != index).collect();
        self.wiring().add_routes(Some(&node.namespace()), &others)?;
        for namespace in self.namespaces()?.iter().filter(|path| **path != node.namespace()) {
            self.wiring().add_routes(Some(namespace), &[index])?;
        }
        self.wiring().add_routes(None, &[index])?;
        let server = self.control_plane(&pieces.hyperkube).server();
        Ok(node.boot(pieces, &self.layout(), &server, ledger)?)
    }

    fn namespaces(&self) -> Result<Vec<PathBuf>, FileError> {
        files::list(&self.folder.join("namespaces"))
    }

    fn wait_for_nodes(&self, nodes: &[Node]) -> Result<(), ClusterError> {
        for node in nodes {
            let what = format!("node {} to be ready", node.name());
            let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            self.session.wait(&what, PATIENCE, || {
                // One that ended is reported right away, not waited for.
                if node.has_ended(&self.ledger()) {
                    return Ok(Err(node.not_running()));
                }
                self.wait_look(&["get", "node", node.name(), "-o", path], |said| said == "True").map(Ok)
            })??;
            self.session.say(format!("{} is ready", node.name()));
        }
        Ok(())
    }

    /// Pods are refused until the service account `default` exists.
    fn wait_for_service_account(&self) -> Result<(), ClusterError> {
        let words = ["get", "serviceaccount", "default", "-o", "name"];
        let found = |said: &str| !said.is_empty();
        Ok(self.session.wait("the service account `default`", PATIENCE, || self.wait_look(&words, found))?)
    }

    fn wait_look(&self, words: &[&str], is_met: impl Fn(&str) -> bool) -> Result<(), String> {
        let output = self.kubectl(words).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        if is_met(said.trim()) { Ok(()) } else { Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))) }
    }
}

const CONTROL_PLANE: &str = "control-plane";

/// The record of one more node: the lowest free place, and a name that says its containerd.
fn next_record(cluster: &ClusterName, version: ContainerdVersion, existing: &[&NodeRecord]) -> Option<NodeRecord> {
    let index = (0..network::NODES).find(|index| existing.iter().all(|record| record.index != *index))?;
    let name = format!("{cluster}-containerd-{}", version.as_str().replace('.', "-"));
    let names = (1..=u16::from(network::NODES)).map(|n| if n == 1 { name.clone() } else { format!("{name}-n{n}") });
    let name = names.into_iter().find(|name| existing.iter().all(|record| record.name != *name))?;
    Some(NodeRecord { name, index, version })
}

fn remove(claim: Claim) -> Result<(), ClusterError> {
    let left = Ledger::of(&claim.folder).undo(&claim.folder);
    if !left.is_empty() {
        return Err(ClusterError::Left { name: claim.name.clone(), left });
    }
    Ok(claim.remove()?)
}
