//! The containerd versions a node can have, and the configuration such a node usually has.

use std::fmt;
use std::str::FromStr;

/// A containerd version that nodes can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ContainerdVersion {
    /// 1.6, of Debian 12.
    #[serde(rename = "1.6")]
    V1_6,
    /// 1.7, of Debian 13.
    #[serde(rename = "1.7")]
    V1_7,
    /// 2.1, of Debian unstable.
    #[serde(rename = "2.1")]
    V2_1,
}

/// A containerd version that nodes cannot run.
#[derive(Debug, thiserror::Error)]
#[error("no containerd `{0}` here: choose among 1.6, 1.7 and 2.1")]
pub struct UnknownVersion(String);

impl ContainerdVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2_1];

    /// The version as containerd writes it, without the patch level.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2_1 => "2.1",
        }
    }

    /// The Debian release that packages it, if it is not the node's own.
    pub(crate) fn foreign_suite(self) -> Option<&'static str> {
        match self {
            Self::V1_6 => None,
            Self::V1_7 => Some("trixie"),
            Self::V2_1 => Some("sid"),
        }
    }

    /// The node's `config.toml`. 1.6 spells runc out, as a file made from `containerd config
    /// default` does; 1.7 relies on the built-in runc, as Debian's own file does; 2.1 is version 3.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::V1_6 => include_str!("containerd/1.6.toml"),
            Self::V1_7 => include_str!("containerd/1.7.toml"),
            Self::V2_1 => include_str!("containerd/2.1.toml"),
        }
    }
}

impl fmt::Display for ContainerdVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ContainerdVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}
