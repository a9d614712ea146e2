//! Names that are right by construction.

use std::fmt;
use std::str::FromStr;

/// The name of a cluster: lower-case letters, digits and dashes, beginning with a letter, at most 20
/// characters, so that node names made from it fit a host name and a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// A name that cannot be a cluster's.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name for a cluster: use 1 to 20 lower-case letters, digits and dashes, beginning with a letter")]
pub struct BadName(String);

impl ClusterName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let letters = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if letters && begins && !text.ends_with('-') && text.len() <= 20 {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
