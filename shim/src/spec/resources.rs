//! The limits of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `linux.resources`; also the body of containerd's Update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    /// Memory, in bytes.
    pub(crate) memory: Memory,
    /// Processor time.
    pub(crate) cpu: Cpu,
    /// How many processes.
    pub(crate) pids: Pids,
    /// Files of cgroup v2, set as they are.
    pub(crate) unified: BTreeMap<String, String>,
}

/// Memory, in bytes; -1 is without limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// The hard limit.
    pub(crate) limit: Option<i64>,
    /// What is kept for the container when memory is short.
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together.
    pub(crate) swap: Option<i64>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cpu {
    /// Relative weight, 2 to 262144.
    pub(crate) shares: Option<u64>,
    /// Microseconds per period; -1 is without limit.
    pub(crate) quota: Option<i64>,
    /// Microseconds.
    pub(crate) period: Option<u64>,
    /// Which processors, such as `0-3`.
    pub(crate) cpus: String,
    /// Which memory nodes.
    pub(crate) mems: String,
}

/// How many processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pids {
    /// The limit; 0 and less are without.
    pub(crate) limit: i64,
}
