//! The Order: what should be on a node, complete, so that removing a runtime is leaving it out.

use serde::{Deserialize, Serialize};

use crate::runtime::{Runtime, sha256};

/// The environment variable in which a Job hands the Order to the installer.
pub const ORDER_ENV: &str = "KWASM_ORDER";

/// Everything a node should have. Unknown fields are ignored, so that an older installer understands
/// a newer operator as long as the version is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The document's version.
    pub version: OrderVersion,
    /// The node it is meant for.
    pub node: String,
    /// All runtimes the node should have, in the order of their names.
    pub runtimes: Vec<Runtime>,
}

/// The versions of the Order document; written as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum OrderVersion {
    /// 1, the first.
    #[default]
    V1,
}

/// An Order of a version that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this Order has version {0}; this program understands version 1: use an installer image of the operator's release"
)]
pub struct UnknownOrderVersion(pub u32);

impl TryFrom<u32> for OrderVersion {
    type Error = UnknownOrderVersion;

    fn try_from(version: u32) -> Result<Self, Self::Error> {
        match version {
            1 => Ok(Self::V1),
            other => Err(UnknownOrderVersion(other)),
        }
    }
}

impl From<OrderVersion> for u32 {
    fn from(version: OrderVersion) -> Self {
        match version {
            OrderVersion::V1 => 1,
        }
    }
}

impl Order {
    /// An Order for `node`; the runtimes are put in the order of their names.
    #[must_use]
    pub fn new(node: impl Into<String>, mut runtimes: Vec<Runtime>) -> Self {
        runtimes.sort_by(|a, b| a.name.cmp(&b.name));
        Self { version: OrderVersion::V1, node: node.into(), runtimes }
    }

    /// Identifies the Order: 64 hexadecimal digits, the SHA-256 of its JSON.
    #[must_use]
    pub fn digest(&self) -> String {
        Self::digest_of(&self.to_json())
    }

    /// Identifies an Order by its JSON as it came: a newer operator may have written fields that this program ignores.
    #[must_use]
    pub fn digest_of(json: &str) -> String {
        sha256(json.as_bytes())
    }

    /// The Order as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising cannot fail: every map key is a string.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an Order.
    ///
    /// # Errors
    /// If it is not JSON, lacks a field, or has a version that this program does not know.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_back_from_its_json() {
        let order = Order::new("node-1", Vec::new());
        assert_eq!(Order::from_json(&order.to_json()).unwrap(), order);
    }

    #[test]
    fn an_unknown_field_is_ignored() {
        let json = r#"{"version": 1, "node": "n", "runtimes": [], "later": true}"#;
        assert_eq!(Order::from_json(json).unwrap(), Order::new("n", Vec::new()));
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_way_out() {
        let error = Order::from_json(r#"{"version": 2, "node": "n", "runtimes": []}"#).unwrap_err();
        assert!(error.to_string().contains("this Order has version 2"), "{error}");
    }
}
