//! The whole fleet as one value: what every node has, should have, and how it is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::SelectorExt;
use kube::{Resource, ResourceExt};
use kwasm_api::Runtime;
use kwasm_api::names::{RUNTIME_READY, runtime_label};
use kwasm_api::report::{RuntimeReport, RuntimeState};
use kwasm_api::wasm_node::{Phase, WasmNode};

use super::validate::{Candidate, Refused, held, validate};
use crate::metrics;
use crate::observed::{Declared, Node, Unreadable};
use crate::world::{Guarded, World};

/// What the operator was told at its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// Every node counts as opted in.
    pub(crate) auto_provision: bool,
    /// The image of the installer.
    pub(crate) installer: String,
}

/// The objects of one moment, taken from the stores.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) wasm_nodes: Vec<Arc<Guarded<WasmNode>>>,
    pub(crate) runtimes: Vec<Arc<Declared>>,
    pub(crate) classes: Vec<Arc<RuntimeClass>>,
}

impl Snapshot {
    pub(crate) fn of(world: &World) -> Self {
        Self {
            nodes: world.nodes.state(),
            wasm_nodes: world.wasm_nodes.state(),
            runtimes: world.runtimes.state(),
            classes: world.classes.state(),
        }
    }
}

/// The fleet.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    pub(crate) candidates: Vec<Candidate<'a>>,
    pub(crate) refused: Vec<Refused<'a>>,
    pub(crate) unreadable: Vec<&'a Unreadable>,
    /// Runtimes that nodes keep as they have them.
    pub(crate) held: BTreeSet<String>,
    pub(crate) members: Vec<Member<'a>>,
    pub(crate) classes: BTreeMap<String, &'a RuntimeClass>,
    /// `WasmNode`s of nodes that have been replaced by others of the same name.
    pub(crate) orphans: Vec<&'a WasmNode>,
    /// Nodes whose `WasmNode` could not be written: they wait, and take nobody's turn.
    pub(crate) put_off: BTreeSet<String>,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) node: &'a Node,
    pub(crate) wasm_node: Option<&'a WasmNode>,
    /// What its spec says, by name.
    pub(crate) current: BTreeMap<&'a str, &'a Runtime>,
    /// What it should have, by name, if there were no budget.
    pub(crate) desired: BTreeMap<String, Runtime>,
    pub(crate) progress: Progress,
}

/// How a node is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress {
    /// It has what its spec says, or has no spec.
    Settled,
    /// It is on its way.
    Changing,
    /// It failed, and is on its way once more.
    Retrying,
    /// It failed, and may be tried again at a time.
    Failed(Option<Time>),
}

impl<'a> Fleet<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, policy: &Policy, put_off: BTreeSet<String>) -> Self {
        let readable: Vec<_> = snapshot.runtimes.iter().filter_map(|object| object.0.as_ref().ok()).collect();
        let (candidates, refused) = validate(&readable);
        let unreadable: Vec<_> =
            snapshot.runtimes.iter().filter_map(|object| object.0.as_ref().err().map(AsRef::as_ref)).collect();
        let mut wasm_nodes: BTreeMap<&str, &WasmNode> = BTreeMap::new();
        for object in &snapshot.wasm_nodes {
            if let Ok(wasm_node) = &object.0 {
                wasm_nodes.insert(wasm_node.metadata.name.as_deref().unwrap_or_default(), wasm_node);
            }
        }
        let mut members = Vec::with_capacity(snapshot.nodes.len());
        let mut orphans = Vec::new();
        for node in &snapshot.nodes {
            match wasm_nodes.remove(node.name()) {
                Some(old) if old.spec.node_uid != node.uid() => orphans.push(old),
                found => members.push(Member::new(node, found, desired(node, &candidates, policy))),
            }
        }
        members.sort_by_key(|member| member.node.name());
        let classes = snapshot.classes.iter().map(|class| (class.name_any(), class.as_ref())).collect();
        Self { held: held(&refused, &unreadable), candidates, refused, unreadable, members, classes, orphans, put_off }
    }
}

impl<'a> Member<'a> {
    fn new(node: &'a Node, wasm_node: Option<&'a WasmNode>, desired: BTreeMap<String, Runtime>) -> Self {
        let runtimes = wasm_node.map(|wasm_node| wasm_node.spec.runtimes.as_slice()).unwrap_or_default();
        let current = runtimes.iter().map(|runtime| (runtime.name.as_str(), runtime)).collect();
        Self { node, wasm_node, current, desired, progress: wasm_node.map_or(Progress::Settled, progress) }
    }

    /// Whether it advertises a runtime of this revision.
    pub(crate) fn serves(&self, runtime: &Runtime) -> bool {
        self.node.label(&runtime_label(&runtime.name)) == Some(RUNTIME_READY)
            && self.reported().any(|found| {
                found.name == runtime.name && found.revision == runtime.revision && found.state == RuntimeState::Ready
            })
    }

    /// Every runtime that the node has, gets, or loses.
    pub(crate) fn concerns(&self) -> BTreeSet<&str> {
        let desired = self.desired.keys().map(String::as_str);
        desired.chain(self.current.keys().copied()).chain(self.reported().map(|found| found.name.as_str())).collect()
    }

    /// Whether a runtime is, or may be, on the node.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        // While the node changes nobody knows.
        self.progress.is_changing()
            || self.current.contains_key(name)
            || self.reported().any(|found| found.name == name)
    }

    fn reported(&self) -> impl Iterator<Item = &'a RuntimeReport> {
        let status = self.wasm_node.and_then(|wasm_node| wasm_node.status.as_ref());
        status.into_iter().flat_map(|status| &status.runtimes)
    }
}

impl Progress {
    /// Whether its host is being changed.
    pub(crate) fn is_changing(&self) -> bool {
        matches!(self, Self::Changing | Self::Retrying)
    }

    /// Whether its last attempt that ended failed.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self, Self::Retrying | Self::Failed(_))
    }

    pub(crate) fn metric(&self) -> metrics::Progress {
        match self {
            Self::Settled => metrics::Progress::Settled,
            Self::Changing | Self::Retrying => metrics::Progress::Changing,
            Self::Failed(_) => metrics::Progress::Failed,
        }
    }
}

fn progress(wasm_node: &WasmNode) -> Progress {
    let status = wasm_node.status.as_ref();
    let current = status.filter(|status| status.observed_generation == wasm_node.metadata.generation);
    match current.and_then(|status| status.phase) {
        Some(Phase::Ready) => Progress::Settled,
        Some(Phase::Failed) => Progress::Failed(current.and_then(|status| status.retry_after.clone())),
        Some(Phase::Changing | Phase::Verifying) | None if wasm_node.spec.attempt > 1 => Progress::Retrying,
        Some(Phase::Changing | Phase::Verifying) | None => Progress::Changing,
    }
}

/// What a node should have if there were no budget.
fn desired(node: &Node, candidates: &[Candidate<'_>], policy: &Policy) -> BTreeMap<String, Runtime> {
    if node.label("kubernetes.io/os").is_some_and(|os| os != "linux") {
        return BTreeMap::new();
    }
    let opted_in = node.opted_in || policy.auto_provision;
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = candidates.iter().filter(|candidate| {
        let chosen = candidate.selector.as_ref().map_or(opted_in, |selector| selector.matches(labels));
        chosen && !candidate.deleting && super::plan::is_guarded(candidate.object.meta())
    });
    selected.map(|candidate| (candidate.runtime.name.clone(), candidate.runtime.clone())).collect()
}
