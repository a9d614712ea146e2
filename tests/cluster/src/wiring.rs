//! Making a cluster's network, and changing it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::cgroup::Cgroup;
use crate::files::{self, FileError};
use crate::network::Network;
use crate::process;
use crate::tool::{self, ToolError};

/// A cluster's network, and the cgroup that every tool enters which works on it: a tool whose harness was
/// killed ends with the cluster, instead of adding to the machine what was just removed.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// The addresses.
    pub(crate) network: Network,
    /// One of the cluster's.
    pub(crate) cgroup: Cgroup,
}

impl Wiring {
    /// Makes the bridge, which tells whoever looks at it whose it is. What it is called must be
    /// written down before.
    pub(crate) fn make_bridge(&self, owner: &str) -> Result<(), NetworkError> {
        let (bridge, address) = (self.network.bridge(), self.network.machine());
        self.batch(
            None,
            &format!(
                "link add {bridge} type bridge\naddress add {address}/17 dev {bridge}\nlink set {bridge} up alias {owner}\n"
            ),
        )
    }

    /// Makes the namespace bound to `file` and its cable to the bridge.
    pub(crate) fn make_namespace(&self, file: &Path, node: Option<u8>, owner: &str) -> Result<(), NetworkError> {
        files::write(file, "")?;
        tool::run(&mut self.command(&[
            "unshare".to_owned(),
            format!("--net={}", file.display()),
            "true".to_owned(),
        ])?)?;
        let (cable, bridge) = (self.network.cable(node), self.network.bridge());
        let address = node.map_or_else(|| self.network.control_plane(), |index| self.network.node(index));
        let path = file.display();
        self.batch(
            None,
            &format!(
                "link add {cable} type veth peer name eth0 netns {path}\nlink set {cable} master {bridge}\nlink set {cable} up alias {owner}\n"
            ),
        )?;
        let inside = format!(
            "link set lo up\naddress add {address}/17 dev eth0\nlink set eth0 up\nroute add default via {}\n",
            self.network.machine()
        );
        self.batch(Some(file), &inside)
    }

    /// Adds, to a namespace or the machine, the ways to the pods of nodes.
    pub(crate) fn add_routes(&self, namespace: Option<&Path>, nodes: &[u8]) -> Result<(), NetworkError> {
        let mut commands = String::new();
        for index in nodes {
            let _ = writeln!(commands, "route replace {} via {}", self.network.pods(*index), self.network.node(*index));
        }
        self.batch(namespace, &commands)
    }

    /// Removes the way to the pods of a node. One that is not there is no error.
    pub(crate) fn remove_route(&self, namespace: Option<&Path>, node: u8) -> Result<(), NetworkError> {
        // A batch, like `route flush` by itself, does not mind if there is none.
        self.batch(namespace, &format!("route flush {}\n", self.network.pods(node)))
    }

    fn batch(&self, namespace: Option<&Path>, commands: &str) -> Result<(), NetworkError> {
        let mut words = Vec::new();
        if let Some(file) = namespace {
            words.extend(["nsenter".to_owned(), format!("--net={}", file.display())]);
        }
        words.extend(["ip", "-batch", "-"].map(str::to_owned));
        tool::run_with_input(&mut self.command(&words)?, commands)?;
        Ok(())
    }

    fn command(&self, words: &[String]) -> Result<Command, FileError> {
        Ok(process::entering(&self.cgroup.folders()?, words, None))
    }
}

/// A network that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
}
