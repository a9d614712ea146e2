//! What this process's surroundings say of the network. It is read before the node is entered: a pod's names, proxies
//! and secrets are its own, and the node's file of name servers often names one that only the node itself reaches.

use std::fs;

use super::credentials::Credentials;
use super::names::Names;
use super::proxy::Proxies;

/// Everything that is needed to reach a server.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// How names are resolved.
    pub names: Names,
    /// Which servers are reached through others.
    pub proxies: Proxies,
    /// Who we are to a registry.
    pub credentials: Credentials,
}

impl Network {
    /// The surroundings of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            names: Names::of(&text("/etc/resolv.conf"), &text("/etc/hosts")),
            proxies: Proxies::of(|name| std::env::var(name).ok()),
            credentials: Credentials::of_this_process(),
        }
    }
}
