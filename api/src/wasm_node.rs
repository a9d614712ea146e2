//! `WasmNode`: what one node should have and has. It is named after its node and owned by it.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the columns of a CustomResource for repeated attributes"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Containerd, Report, RuntimeReport};
use crate::runtime::Runtime;

/// What one node should have. The operator writes it; it is there to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kwasm.sh",
    version = "v1alpha1",
    kind = "WasmNode",
    doc = "What one node should have and has. It is named after its node; the operator writes it.",
    plural = "wasmnodes",
    shortname = "wn",
    category = "kwasm",
    status = "WasmNodeStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Containerd", type_ = "string", json_path = ".status.containerd.version"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WasmNodeSpec {
    /// UID of the Node this speaks of: another node of the same name is another node.
    #[serde(rename = "nodeUID")]
    pub node_uid: String,
    /// Every runtime the node should have; none: all are to be removed.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub runtimes: Vec<Runtime>,
    /// The image whose program changes the node.
    #[serde(default)]
    pub installer: String,
    /// The host that the spec was made for: when it is started again or replaced, it is looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
    /// Counts the attempts at this spec, from 1. It is raised when a failed node may try again.
    #[serde(default = "first_attempt")]
    pub attempt: i32,
}

fn first_attempt() -> i32 {
    1
}

/// What a kubelet says of the host it runs on (`status.nodeInfo` of its Node).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostIdentity {
    /// Another after the host was installed anew.
    #[serde(rename = "machineID", default)]
    pub machine_id: String,
    /// Another after every start.
    #[serde(rename = "bootID", default)]
    pub boot_id: String,
    /// Such as `containerd://1.7.24`.
    #[serde(default)]
    pub container_runtime_version: String,
}

impl HostIdentity {
    /// Whether it is the same installation with the same container runtime, perhaps started again: what was put there
    /// is there still, as far as anybody knows.
    #[must_use]
    pub fn is_same_installation(&self, other: &Self) -> bool {
        self.machine_id == other.machine_id && self.container_runtime_version == other.container_runtime_version
    }
}

/// Where a node is on its way to its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The installer's Job is on its way.
    Changing,
    /// The Job succeeded; the kubelet does not report all handlers yet.
    Verifying,
    /// The node has what its spec says: verified.
    Ready,
    /// The node has not what its spec says: the `Ready` condition tells why.
    Failed,
}

/// What is true of a node now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WasmNodeStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the node is on its way to that spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When a failed node may try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Time>,
    /// The Job that changes or last changed the node, in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Digest of the Order that is being or was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// What kind of node this is, such as `containerd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// The node's containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<Containerd>,
    /// The host that the runtimes were verified on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
    /// Every runtime that is on the node, as last verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<RuntimeReport>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last Report of the installer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}
