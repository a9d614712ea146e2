//! `WasmRuntime`: one runtime that nodes should have.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the columns of a CustomResource for repeated attributes"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::runtime::{OptionValue, Runtime, RuntimeKind, Source};

/// A runtime that nodes should have: where it comes from, how it is started, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kwasm.sh",
    version = "v1alpha1",
    kind = "WasmRuntime",
    doc = "A runtime that nodes should have.",
    plural = "wasmruntimes",
    shortname = "wr",
    category = "kwasm",
    status = "WasmRuntimeStatus",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 63").message("a WasmRuntime's name is at most 63 characters long: it becomes a part of a node label"),
    validation = Rule::new("!self.metadata.name.contains('.')").message("a WasmRuntime's name holds no dot: it becomes a handler's name"),
    printcolumn(name = "Handler", type_ = "string", json_path = ".status.handler"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes.desired"),
    printcolumn(name = "Ready-Nodes", type_ = "integer", json_path = ".status.nodes.ready"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.conditions[?(@.type==\"Progressing\")].reason"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.nodes.failed", priority = 1),
    printcolumn(name = "Doing", type_ = "string", json_path = ".status.conditions[?(@.type==\"Progressing\")].message", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeSpec {
    /// The handler in the container runtime's configuration; the object's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub handler: Option<String>,
    /// Where the binary comes from.
    pub source: Source,
    /// `Shim`: a binary that speaks the shim v2 protocol. `OCI`: a runtime with runc's command line.
    #[serde(default)]
    pub kind: RuntimeKind,
    /// Options of the handler, written to its `options` table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionValue>,
    /// Pod annotations that containerd hands to the runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_annotations: Vec<String>,
    /// The RuntimeClass that is published once a node is verified.
    #[serde(default)]
    pub runtime_class: RuntimeClassSpec,
    /// Which nodes have the runtime; if absent, those that opted in by `kwasm.sh/kwasm-node=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// How changes reach the nodes.
    #[serde(default)]
    pub rollout: Rollout,
}

/// The RuntimeClass of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeClassSpec {
    /// Its name; the `WasmRuntime`'s if absent. One that exists already is adopted, never recreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: Option<String>,
    /// What a pod costs beyond its containers' requests, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overhead: BTreeMap<String, Quantity>,
    /// Added to every pod of the class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// How changes reach the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many nodes may change at a time: a number, or a percentage of the nodes (rounded up).
    #[serde(default = "Rollout::default_max_unavailable")]
    pub max_unavailable: IntOrString,
    /// How many nodes may have failed before no further node is started.
    #[serde(default = "Rollout::default_max_failures")]
    #[schemars(range(min = 0))]
    pub max_failures: i32,
    /// Starts no further change while true.
    #[serde(default)]
    pub paused: bool,
}

impl Rollout {
    fn default_max_unavailable() -> IntOrString {
        IntOrString::String("10%".to_owned())
    }

    fn default_max_failures() -> i32 {
        1
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_unavailable: Self::default_max_unavailable(),
            max_failures: Self::default_max_failures(),
            paused: false,
        }
    }
}

/// What is true of a runtime now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that nodes should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The handler that pods reach it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// How many nodes are where.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// `Ready`, `Progressing` and `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How many nodes are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounts {
    /// Should have the runtime.
    #[serde(default)]
    pub desired: i32,
    /// Serve the wanted revision: verified.
    #[serde(default)]
    pub ready: i32,
    /// Are being changed.
    #[serde(default)]
    pub updating: i32,
    /// Could not be changed.
    #[serde(default)]
    pub failed: i32,
}

impl WasmRuntime {
    /// The runtime as a node should have it.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        let name = self.metadata.name.clone().unwrap_or_default();
        Runtime {
            handler: self.spec.handler.clone().unwrap_or_else(|| name.clone()),
            name,
            revision: String::new(),
            kind: self.spec.kind,
            source: self.spec.source.clone(),
            options: self.spec.options.clone(),
            pod_annotations: self.spec.pod_annotations.clone(),
        }
        .revise()
    }

    /// The name of its RuntimeClass.
    #[must_use]
    pub fn runtime_class_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.runtime_class.name.as_deref().unwrap_or(own)
    }
}
