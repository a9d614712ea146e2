//! Worlds for tests, built by hand: a value per object, changed by chained words.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kwasm_api::Runtime;
use kwasm_api::names::{FINALIZER, RUNTIME_READY, runtime_label};
use kwasm_api::report::{Failure, NodeState, Report, RuntimeReport, RuntimeState};
use kwasm_api::wasm_node::{HostIdentity, Phase, WasmNode, WasmNodeSpec, WasmNodeStatus};
use kwasm_api::wasm_runtime::WasmRuntime;
use serde_json::json;

use crate::observed::Node;

/// The installer's image in tests.
pub(crate) const INSTALLER: &str = "installer:1";

/// A moment of the test's clock, in seconds.
pub(crate) fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// A bundled runtime, as nodes get it.
pub(crate) fn runtime(name: &str) -> Runtime {
    wasm_runtime(name).runtime()
}

/// A bundled runtime that operator has taken in its care, for the nodes that opted in.
pub(crate) fn wasm_runtime(name: &str) -> WasmRuntime {
    serde_json::from_value(json!({
        "apiVersion": "kwasm.sh/v1alpha1",
        "kind": "WasmRuntime",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1",
            "finalizers": [FINALIZER], "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"source": {"bundled": {}}},
    }))
    .unwrap()
}

/// Words for a WasmRuntime.
pub(crate) trait RuntimeWords: Sized {
    fn max_unavailable(self, value: IntOrString) -> Self;
    fn paused(self) -> Self;
    fn deleting(self) -> Self;
    fn on(self, label: &str, value: &str) -> Self;
    fn changed(self) -> Self;
}

impl RuntimeWords for WasmRuntime {
    fn max_unavailable(mut self, value: IntOrString) -> Self {
        self.spec.rollout.max_unavailable = value;
        self
    }

    fn paused(mut self) -> Self {
        self.spec.rollout.paused = true;
        self
    }

    fn deleting(mut self) -> Self {
        self.metadata.deletion_timestamp = Some(at(0));
        self
    }

    fn on(mut self, label: &str, value: &str) -> Self {
        self.spec.node_selector = serde_json::from_value(json!({"matchLabels": {label: value}})).unwrap();
        self
    }

    /// Another revision.
    fn changed(mut self) -> Self {
        self.spec.pod_annotations.push("changed".to_owned());
        self
    }
}

/// A ready node that did not opt in, whose kubelet reports no handlers.
pub(crate) fn node(name: &str) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            labels: Some(BTreeMap::new()),
            ..ObjectMeta::default()
        },
        ready: true,
        ..Node::default()
    }
}

impl Node {
    pub(crate) fn opted_in(mut self) -> Self {
        self.opted_in = true;
        self
    }

    pub(crate) fn not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    pub(crate) fn labelled(mut self, key: &str, value: &str) -> Self {
        self.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn advertising(self, runtime: &str) -> Self {
        self.labelled(&runtime_label(runtime), RUNTIME_READY)
    }

    pub(crate) fn on_host(mut self, host: &HostIdentity) -> Self {
        self.host = Some(host.clone());
        self
    }

    pub(crate) fn reporting(mut self, handlers: &[&str]) -> Self {
        self.handlers = Some(handlers.iter().map(|&handler| handler.to_owned()).collect::<BTreeSet<_>>());
        self
    }
}

/// A host that was started once.
pub(crate) fn host() -> HostIdentity {
    HostIdentity {
        machine_id: "machine".to_owned(),
        boot_id: "first".to_owned(),
        container_runtime_version: "containerd://1.7.24".to_owned(),
    }
}

/// The same, started again.
pub(crate) fn started_again() -> HostIdentity {
    HostIdentity { boot_id: "second".to_owned(), ..host() }
}

/// Another of the same name.
pub(crate) fn installed_anew() -> HostIdentity {
    HostIdentity { machine_id: "another".to_owned(), ..started_again() }
}

/// A `WasmNode` that nobody has worked on yet.
pub(crate) fn wasm_node(name: &str, runtimes: &[Runtime]) -> WasmNode {
    let spec = WasmNodeSpec {
        node_uid: format!("uid-{name}"),
        runtimes: runtimes.to_vec(),
        installer: INSTALLER.to_owned(),
        host: None,
        attempt: 1,
    };
    let mut wasm_node = WasmNode::new(name, spec);
    wasm_node.metadata.uid = Some(format!("uid-wn-{name}"));
    wasm_node.metadata.generation = Some(1);
    wasm_node
}

/// Words for a `WasmNode`.
pub(crate) trait NodeWords: Sized {
    fn in_phase(self, phase: Phase) -> Self;
    fn verified(self) -> Self;
    fn failed(self, retry_after: i64) -> Self;
    fn attempt(self, attempt: i32) -> Self;
    fn made_for(self, host: &HostIdentity) -> Self;
    fn respecified(self, runtimes: &[Runtime]) -> Self;
}

impl NodeWords for WasmNode {
    fn in_phase(mut self, phase: Phase) -> Self {
        let generation = self.metadata.generation;
        let status = self.status.get_or_insert_default();
        status.phase = Some(phase);
        status.observed_generation = generation;
        self
    }

    /// It has what its spec says, and its installer said so.
    fn verified(self) -> Self {
        let mut this = self.in_phase(Phase::Ready);
        let report = report(&this);
        let status = this.status.get_or_insert_default();
        status.runtimes.clone_from(&report.runtimes);
        status.report = Some(report);
        status.host.clone_from(&this.spec.host);
        this
    }

    fn failed(self, retry_after: i64) -> Self {
        let mut this = self.in_phase(Phase::Failed);
        this.status.get_or_insert_default().retry_after = Some(at(retry_after));
        this
    }

    fn attempt(mut self, attempt: i32) -> Self {
        self.spec.attempt = attempt;
        self
    }

    fn made_for(mut self, host: &HostIdentity) -> Self {
        self.spec.host = Some(host.clone());
        self
    }

    /// The fleet wants something else of it now.
    fn respecified(mut self, runtimes: &[Runtime]) -> Self {
        self.spec.runtimes = runtimes.to_vec();
        self.metadata.generation = self.metadata.generation.map(|generation| generation + 1);
        self
    }
}

/// What our installer says when it brought everything that a `WasmNode` asks for.
pub(crate) fn report(wasm_node: &WasmNode) -> Report {
    Report {
        version: 1,
        order: crate::node::order(wasm_node).digest(),
        runtimes: wasm_node.spec.runtimes.iter().map(found).collect(),
        ..Report::default()
    }
}

/// What our installer says when it could not read the configuration.
pub(crate) fn failure(wasm_node: &WasmNode, node_state: NodeState) -> Report {
    let failure = Failure {
        step: "read /etc/containerd/config.toml".to_owned(),
        reason: "ConfigNotToml".to_owned(),
        message: "line 3, column 5: expected `=`".to_owned(),
        node_state,
        remedy: "mend the file".to_owned(),
    };
    Report { runtimes: Vec::new(), failure: Some(failure), ..report(wasm_node) }
}

fn found(runtime: &Runtime) -> RuntimeReport {
    RuntimeReport::of(runtime, RuntimeState::Ready)
}

/// What a status looks like in a snapshot.
pub(crate) fn told(status: &WasmNodeStatus) -> String {
    let condition = status.conditions.first();
    let said = condition.map(|c| format!("Ready={} {}: {}", c.status, c.reason, c.message)).unwrap_or_default();
    let runtimes: Vec<_> = status.runtimes.iter().map(|found| format!("{}@{}", found.name, found.revision)).collect();
    format!("{:?} [{}] {said}", status.phase, runtimes.join(", "))
}
