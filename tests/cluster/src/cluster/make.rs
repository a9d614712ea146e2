//! Making a cluster, and adding to it.

use std::time::Duration;

use super::{CONTROL_PLANE, Cluster, ClusterError, remove};
use crate::containerd::ContainerdVersion;
use crate::files;
use crate::ledger::{Ledger, Made};
use crate::names::ClusterName;
use crate::network;
use crate::node::{Node, NodeRecord};
use crate::pieces::Pieces;
use crate::preflight;
use crate::registry::{self, Claim};
use crate::session::Session;

/// How long nodes may take from their start until they are ready; 20 s is usual for three.
const PATIENCE: Duration = Duration::from_secs(180);

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

/// The record of one more node: the lowest free place, and a name that says its containerd.
fn next_record(cluster: &ClusterName, version: ContainerdVersion, existing: &[&NodeRecord]) -> Option<NodeRecord> {
    let index = (0..network::NODES).find(|index| existing.iter().all(|record| record.index != *index))?;
    let name = format!("{cluster}-containerd-{}", version.as_str().replace('.', "-"));
    let names = (1..=u16::from(network::NODES)).map(|n| if n == 1 { name.clone() } else { format!("{name}-n{n}") });
    let name = names.into_iter().find(|name| existing.iter().all(|record| record.name != *name))?;
    Some(NodeRecord { name, index, version })
}
