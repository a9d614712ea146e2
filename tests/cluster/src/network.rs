//! The addresses and names of a cluster's network: a bridge on the machine, and a network namespace for
//! the control plane and for each node. All come from the cluster's number.

use std::net::Ipv4Addr;
use std::path::Path;

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
