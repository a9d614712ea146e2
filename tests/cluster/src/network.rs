//! The network of a cluster: a bridge on the machine, and a network namespace for the control plane
//! and for each node. All addresses come from the cluster's number.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::files::{self, FileError};
use crate::tool::{self, ToolError};

/// The first of the 10.x.0.0/16 networks that clusters use; the last is 10.255.0.0/16.
const FIRST_NETWORK: u8 = 200;
/// How many clusters fit on a machine.
pub(crate) const CLUSTERS: u8 = 56;
/// How many nodes fit in a cluster.
pub(crate) const NODES: u8 = 100;

/// The addresses of one cluster, `10.x.0.0/16`: nodes in the lower half, pods in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Network {
    number: u8,
}

impl Network {
    /// The network of the cluster with this number, if there is one.
    pub(crate) fn of(number: u8) -> Option<Self> {
        (number < CLUSTERS).then_some(Self { number })
    }

    fn second(self) -> u8 {
        FIRST_NETWORK + self.number
    }

    /// The name of the bridge.
    pub(crate) fn bridge(self) -> String {
        format!("kwasm{}", self.number)
    }

    /// The name of the machine's end of the control plane's or (by index) a node's cable.
    pub(crate) fn cable(self, node: Option<u8>) -> String {
        node.map_or_else(|| format!("kwasm{}-cp", self.number), |index| format!("kwasm{}-{index}", self.number))
    }

    /// The machine's address on the bridge.
    pub(crate) fn machine(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second(), 0, 1)
    }

    /// The control plane's address.
    pub(crate) fn control_plane(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second(), 0, 2)
    }

    /// The address of a node.
    pub(crate) fn node(self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second(), 0, 10 + index)
    }

    /// The addresses of a node's pods.
    pub(crate) fn pods(self, index: u8) -> String {
        format!("10.{}.{}.0/24", self.second(), 128 + index)
    }

    /// The addresses of all pods.
    pub(crate) fn all_pods(self) -> String {
        format!("10.{}.128.0/17", self.second())
    }

    /// Whether the machine's routes or links (as `ip` prints them) show that it is taken.
    pub(crate) fn is_taken(self, routes: &str, links: &str) -> bool {
        let prefix = format!("10.{}.", self.second());
        let bridge = self.bridge();
        routes.split_whitespace().any(|word| word.starts_with(&prefix))
            || links.split([' ', ':', '@']).any(|word| word == bridge)
    }

    /// Makes the bridge, which tells whoever looks at it whose it is. What it is called must be
    /// written down before.
    pub(crate) fn make_bridge(self, owner: &str) -> Result<(), ToolError> {
        let (bridge, address) = (self.bridge(), self.machine());
        batch(
            None,
            &format!(
                "link add {bridge} type bridge\naddress add {address}/17 dev {bridge}\nlink set {bridge} up alias {owner}\n"
            ),
        )
    }

    /// Makes the namespace bound to `file` and its cable to the bridge.
    pub(crate) fn make_namespace(self, file: &Path, node: Option<u8>, owner: &str) -> Result<(), NetworkError> {
        files::write(file, "")?;
        tool::run(tool::bound_command("unshare", [format!("--net={}", file.display())]).arg("true"))?;
        let (cable, bridge) = (self.cable(node), self.bridge());
        let address = node.map_or_else(|| self.control_plane(), |index| self.node(index));
        let path = file.display();
        batch(
            None,
            &format!(
                "link add {cable} type veth peer name eth0 netns {path}\nlink set {cable} master {bridge}\nlink set {cable} up alias {owner}\n"
            ),
        )?;
        let inside = format!(
            "link set lo up\naddress add {address}/17 dev eth0\nlink set eth0 up\nroute add default via {}\n",
            self.machine()
        );
        Ok(batch(Some(file), &inside)?)
    }

    /// Adds, to a namespace or the machine, the ways to the pods of nodes.
    pub(crate) fn add_routes(self, namespace: Option<&Path>, nodes: &[u8]) -> Result<(), ToolError> {
        let mut commands = String::new();
        for index in nodes {
            let _ = writeln!(commands, "route replace {} via {}", self.pods(*index), self.node(*index));
        }
        batch(namespace, &commands)
    }

    /// Removes the way to the pods of a node. One that is not there is no error.
    pub(crate) fn remove_route(self, namespace: Option<&Path>, node: u8) -> Result<(), ToolError> {
        let mut command = ip(namespace);
        command.args(["route", "flush", &self.pods(node)]);
        tool::run(&mut command).map(drop)
    }
}

/// What the machine has: its routes and its links, as `ip` prints them.
pub(crate) fn survey() -> Result<(String, String), ToolError> {
    let routes = tool::run(&mut tool::command("ip", ["-4", "route", "show", "table", "all"]))?;
    let links = tool::run(&mut tool::command("ip", ["-o", "link", "show"]))?;
    Ok((routes, links))
}

/// Removes a link of the machine. Returns what is wrong if it stays.
pub(crate) fn remove_link(name: &str) -> Option<String> {
    let exists = || Path::new("/sys/class/net").join(name).exists();
    if !exists() {
        return None;
    }
    let error = tool::run(&mut tool::command("ip", ["link", "delete", name])).err();
    exists().then(|| format!("network link {name}: {}", error.map_or_else(String::new, |error| error.to_string())))
}

fn ip(namespace: Option<&Path>) -> std::process::Command {
    match namespace {
        None => tool::bound_command("ip", [""; 0]),
        Some(file) => tool::bound_command("nsenter", [format!("--net={}", file.display()), "ip".to_owned()]),
    }
}

fn batch(namespace: Option<&Path>, commands: &str) -> Result<(), ToolError> {
    let mut command = ip(namespace);
    command.args(["-batch", "-"]);
    tool::run_with_input(&mut command, commands).map(drop)
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

#[cfg(test)]
mod tests {
    use super::{CLUSTERS, NODES, Network};

    #[test]
    fn the_last_cluster_and_node_have_addresses() {
        let network = Network::of(CLUSTERS - 1).unwrap();
        assert_eq!(network.node(NODES - 1).to_string(), "10.255.0.109");
        assert_eq!(network.pods(NODES - 1), "10.255.227.0/24");
        assert!(Network::of(CLUSTERS).is_none());
    }

    #[test]
    fn link_names_fit_the_kernels_fifteen_characters() {
        let network = Network::of(CLUSTERS - 1).unwrap();
        assert!(network.cable(Some(NODES - 1)).len() <= 15);
    }

    #[test]
    fn a_network_with_a_route_of_the_machine_is_taken() {
        let network = Network::of(1).unwrap();
        assert!(network.is_taken("10.201.4.0/24 dev tun0 scope link", ""));
        assert!(!network.is_taken("default via 10.20.1.1 dev eth0\n110.201.0.0/16 dev eth0", ""));
    }

    #[test]
    fn a_network_whose_bridge_exists_is_taken() {
        let network = Network::of(1).unwrap();
        assert!(network.is_taken("", "7: kwasm1: <BROADCAST> mtu 1500"));
        assert!(!network.is_taken("", "7: kwasm11: <BROADCAST> mtu 1500"));
    }
}
