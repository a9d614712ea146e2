//! What to write next, for the whole fleet: decided from what is known, without a client and without a clock.

use std::fmt;

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt};
use kwasm_api::names::{FINALIZER, RUNTIME_LABEL_PREFIX};
use kwasm_api::wasm_node::WasmNodeSpec;
use kwasm_api::wasm_runtime::WasmRuntimeStatus;
use serde_json::Value;

use super::holdoff::Target;
use super::observe::{Fleet, Member, Policy, Progress};
use super::{rollout, runtime_class, status};

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// When a failed node may be tried again.
    pub(crate) again_at: Option<Time>,
}

/// One thing to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Replace the finalizers of a WasmRuntime.
    Finalize { runtime: String, version: String, finalizers: Vec<String> },
    /// What a node should have.
    ApplyWasmNode { node: String, spec: Box<WasmNodeSpec> },
    /// A node that has and wants nothing.
    DeleteWasmNode { node: String, uid: String },
    /// Take away labels that nothing stands behind.
    ClearLabels { node: String, uid: String, labels: Vec<String> },
    /// A RuntimeClass of ours.
    ApplyRuntimeClass(Box<RuntimeClass>),
    /// A RuntimeClass of somebody else.
    PatchRuntimeClass { name: String, patch: Value },
    /// A RuntimeClass of ours.
    DeleteRuntimeClass { name: String, uid: String },
    /// What is true of a WasmRuntime.
    SetStatus { runtime: String, uid: String, status: Box<WasmRuntimeStatus> },
}

/// Decides.
pub(crate) fn plan(fleet: &Fleet<'_>, policy: &Policy, now: &Time) -> Plan {
    let (granted, again_at) = rollout::grants(fleet, policy, now);
    let mut actions: Vec<_> = fleet.candidates.iter().filter_map(|c| guard(c.object.meta())).collect();
    actions.extend(
        granted
            .into_iter()
            .map(|(member, spec)| Action::ApplyWasmNode { node: member.node.name().to_owned(), spec: Box::new(spec) }),
    );
    actions.extend(fleet.members.iter().filter_map(tidy));
    actions.extend(
        fleet
            .orphans
            .iter()
            .map(|old| Action::DeleteWasmNode { node: old.name_any(), uid: old.uid().unwrap_or_default() }),
    );
    actions.extend(runtime_class::plan(fleet));
    actions.extend(status::all(fleet, policy, now));
    actions.extend(released(fleet));
    Plan { actions, again_at }
}

/// Whether deleting the object waits until the nodes are clean.
pub(crate) fn is_guarded(object: &ObjectMeta) -> bool {
    object.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// No node gets a runtime before its object carries the finalizer.
fn guard(object: &ObjectMeta) -> Option<Action> {
    if is_guarded(object) || object.deletion_timestamp.is_some() {
        return None;
    }
    let finalizers = object.finalizers.iter().flatten().cloned().chain([FINALIZER.to_owned()]).collect();
    Some(finalize(object, finalizers))
}

/// WasmRuntimes that may go: no node has them any more. They need not be readable for that.
fn released(fleet: &Fleet<'_>) -> Vec<Action> {
    let candidates = fleet.candidates.iter().map(|candidate| candidate.object.meta());
    let refused = fleet.refused.iter().map(|refused| refused.object.meta());
    let objects = candidates.chain(refused).chain(fleet.unreadable.iter().map(|unreadable| &unreadable.metadata));
    let leaving = objects.filter(|object| object.deletion_timestamp.is_some() && is_guarded(object));
    let free = leaving.filter(|object| {
        let name = object.name.as_deref().unwrap_or_default();
        !fleet.members.iter().any(|member| member.may_have(name))
    });
    free.map(|object| {
        let others = object.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER);
        finalize(object, others.cloned().collect())
    })
    .collect()
}

fn finalize(object: &ObjectMeta, finalizers: Vec<String>) -> Action {
    let version = object.resource_version.clone().unwrap_or_default();
    Action::Finalize { runtime: object.name.clone().unwrap_or_default(), version, finalizers }
}

/// A `WasmNode` that has done its work, and labels without a `WasmNode` behind them.
fn tidy(member: &Member<'_>) -> Option<Action> {
    let node = member.node.name().to_owned();
    let Some(wasm_node) = member.wasm_node else {
        // Whatever it should have, it may wait long for its turn. KWasm's own label may stand for what KWasm installed.
        let labels = member.node.labels().filter(|(key, _)| key.starts_with(RUNTIME_LABEL_PREFIX));
        let labels: Vec<_> = labels.map(|(key, _)| key.to_owned()).collect();
        let uid = member.node.uid().to_owned();
        return (!labels.is_empty()).then_some(Action::ClearLabels { node, uid, labels });
    };
    let is_clean = member.desired.is_empty() && member.current.is_empty() && member.progress == Progress::Settled;
    let is_leaving = wasm_node.metadata.deletion_timestamp.is_some();
    (is_clean && !is_leaving).then(|| Action::DeleteWasmNode { node, uid: wasm_node.uid().unwrap_or_default() })
}

impl Action {
    /// What it writes.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Finalize { runtime, .. } => Target::Runtime(runtime.clone()),
            Self::SetStatus { runtime, .. } => Target::RuntimeStatus(runtime.clone()),
            Self::ApplyWasmNode { node, .. } | Self::DeleteWasmNode { node, .. } => Target::WasmNode(node.clone()),
            Self::ClearLabels { node, .. } => Target::Node(node.clone()),
            Self::ApplyRuntimeClass(class) => Target::Class(class.name_any()),
            Self::PatchRuntimeClass { name, .. } | Self::DeleteRuntimeClass { name, .. } => Target::Class(name.clone()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finalize { runtime, finalizers, .. } => {
                write!(out, "finalizers of WasmRuntime {runtime}: [{}]", finalizers.join(", "))
            }
            Self::ApplyWasmNode { node, spec } => {
                let runtimes: Vec<_> = spec.runtimes.iter().map(|r| format!("{}@{}", r.name, r.revision)).collect();
                write!(out, "apply WasmNode {node}: [{}], attempt {}", runtimes.join(", "), spec.attempt)
            }
            Self::DeleteWasmNode { node, .. } => write!(out, "delete WasmNode {node}"),
            Self::ClearLabels { node, labels, .. } => write!(out, "clear labels of {node}: {}", labels.join(", ")),
            Self::ApplyRuntimeClass(class) => {
                write!(out, "apply RuntimeClass {} with handler {}", class.name_any(), class.handler)
            }
            Self::PatchRuntimeClass { name, patch } => {
                write!(out, "patch RuntimeClass {name}: {}", patch["scheduling"])
            }
            Self::DeleteRuntimeClass { name, .. } => write!(out, "delete RuntimeClass {name}"),
            Self::SetStatus { runtime, status, .. } => {
                let said = status.conditions.iter().map(|c| format!("{}={} ({})", c.type_, c.status, c.reason));
                let nodes = status.nodes;
                let (ready, desired) = (nodes.ready, nodes.desired);
                let said = said.collect::<Vec<_>>().join(", ");
                write!(out, "status of WasmRuntime {runtime}: {ready}/{desired} ready, {said}")
            }
        }
    }
}
