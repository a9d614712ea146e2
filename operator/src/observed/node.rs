//! A Node as the operator needs it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kwasm_api::names::{KWASM_NODE, OPTED_IN};
use kwasm_api::wasm_node::HostIdentity;
use serde::Deserialize;

/// What decisions need of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(crate) struct Node {
    /// Name, UID and labels; the resource version only until the watch has read it.
    pub(crate) metadata: ObjectMeta,
    /// It carries the annotation, or the label, that asks for WebAssembly.
    pub(crate) opted_in: bool,
    /// Its kubelet says that it is ready: an installer could run there.
    pub(crate) ready: bool,
    /// The handlers that the kubelet reports; `None` where the container runtime does not tell it
    /// (containerd before 2.0).
    pub(crate) handlers: Option<BTreeSet<String>>,
    /// The host, once its kubelet has told of it.
    pub(crate) host: Option<HostIdentity>,
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether the kubelet denies that the node serves a handler. A kubelet that reports nothing denies nothing.
    pub(crate) fn denies(&self, handler: &str) -> bool {
        self.handlers.as_ref().is_some_and(|handlers| !handlers.contains(handler))
    }
}

impl Resource for Node {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        core::Node::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        core::Node::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        core::Node::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        core::Node::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: WireMeta,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: WireAnnotations,
}

#[derive(Default, Deserialize)]
struct WireAnnotations {
    #[serde(rename = "kwasm.sh/kwasm-node")]
    kwasm_node: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    #[serde(default)]
    conditions: Vec<WireCondition>,
    runtime_handlers: Option<Vec<WireHandler>>,
    node_info: Option<HostIdentity>,
}

#[derive(Deserialize)]
struct WireCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

#[derive(Deserialize)]
struct WireHandler {
    #[serde(default)]
    name: String,
}

impl From<Wire> for Node {
    fn from(Wire { metadata, status }: Wire) -> Self {
        let WireMeta { name, uid, resource_version, deletion_timestamp, labels, annotations } = metadata;
        let label = labels.as_ref().and_then(|labels| labels.get(KWASM_NODE));
        let opted_in = [annotations.kwasm_node.as_ref(), label].contains(&Some(&OPTED_IN.to_owned()));
        Self {
            opted_in,
            ready: status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            handlers: status.runtime_handlers.map(|list| list.into_iter().map(|handler| handler.name).collect()),
            host: status.node_info.filter(|host| !host.boot_id.is_empty()),
            metadata: ObjectMeta { name, uid, resource_version, deletion_timestamp, labels, ..ObjectMeta::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::watch::strip_version;

    fn node(metadata: Value, status: Value) -> Node {
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    #[rstest]
    #[case::the_annotation_opts_in(json!({"annotations": {"kwasm.sh/kwasm-node": "true"}}), true)]
    #[case::the_label_opts_in(json!({"labels": {"kwasm.sh/kwasm-node": "true"}}), true)]
    #[case::another_spelling_does_not(json!({"annotations": {"kwasm.sh/kwasm-node": "True"}}), false)]
    #[case::nothing_does_not(json!({}), false)]
    fn a_node_opts_in_by_the_exact_value(#[case] metadata: Value, #[case] expected: bool) {
        assert_eq!(node(metadata, json!({})).opted_in, expected);
    }

    #[test]
    fn a_kubelet_that_reports_no_handlers_denies_none() {
        assert!(!node(json!({}), json!({})).denies("wasmtime"));
        assert!(node(json!({}), json!({"runtimeHandlers": [{"name": "runc"}, {}]})).denies("wasmtime"));
    }

    #[test]
    fn a_host_is_known_once_its_kubelet_has_told_of_it() {
        let host = |info: Value| node(json!({}), json!({"nodeInfo": info})).host;
        assert_eq!(host(json!({"machineID": "", "bootID": "", "containerRuntimeVersion": ""})), None);
        let told = json!({"machineID": "m", "bootID": "b", "containerRuntimeVersion": "containerd://1.7.24"});
        assert_eq!(host(told).unwrap().boot_id, "b");
    }

    #[test]
    fn a_heartbeat_leaves_a_node_as_it_was() {
        let beat = |version: &str, time: &str| {
            let mut node = node(
                json!({"name": "a", "resourceVersion": version}),
                json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]}),
            );
            strip_version(&mut node);
            node
        };
        assert_eq!(beat("1", "2026-01-01T00:00:00Z"), beat("2", "2026-01-01T00:05:00Z"));
    }
}
