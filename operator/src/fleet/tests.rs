//! The fleet's decisions.

mod life;
mod published;
mod rollout;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt;
use kube::core::{DeserializeGuard, ObjectMeta};
use kwasm_api::wasm_node::WasmNode;
use kwasm_api::wasm_runtime::{WasmRuntime, WasmRuntimeStatus};

use super::observe::{Fleet, Policy, Snapshot};
use super::plan::{Action, Plan, plan};
use crate::observed::{Declared, Node, Unreadable};
use crate::testing::{INSTALLER, at, wasm_runtime};

/// A world for one decision.
struct World {
    snapshot: Snapshot,
    policy: Policy,
    now: i64,
    put_off: BTreeSet<String>,
}

fn world() -> World {
    let policy = Policy { auto_provision: false, installer: INSTALLER.to_owned() };
    World { snapshot: Snapshot::default(), policy, now: 100, put_off: BTreeSet::new() }
}

impl World {
    fn node(mut self, node: Node) -> Self {
        self.snapshot.nodes.push(Arc::new(node));
        self
    }

    fn nodes(self, nodes: impl IntoIterator<Item = Node>) -> Self {
        nodes.into_iter().fold(self, Self::node)
    }

    fn wasm_node(mut self, wasm_node: WasmNode) -> Self {
        self.snapshot.wasm_nodes.push(Arc::new(DeserializeGuard(Ok(wasm_node))));
        self
    }

    fn runtime(mut self, runtime: WasmRuntime) -> Self {
        self.snapshot.runtimes.push(Arc::new(Declared(Ok(runtime))));
        self
    }

    /// A WasmRuntime of some later version.
    fn unreadable(self, name: &str) -> Self {
        let metadata = wasm_runtime(name).metadata;
        self.unreadable_as(metadata)
    }

    fn unreadable_as(mut self, metadata: ObjectMeta) -> Self {
        let error = "unknown source".to_owned();
        let unreadable = Unreadable { metadata, status: WasmRuntimeStatus::default(), error };
        self.snapshot.runtimes.push(Arc::new(Declared(Err(Box::new(unreadable)))));
        self
    }

    fn class(mut self, class: RuntimeClass) -> Self {
        self.snapshot.classes.push(Arc::new(class));
        self
    }

    fn auto_provision(mut self) -> Self {
        self.policy.auto_provision = true;
        self
    }

    fn at(mut self, now: i64) -> Self {
        self.now = now;
        self
    }

    /// The `WasmNode` of a node could not be written just now.
    fn put_off(mut self, node: &str) -> Self {
        self.put_off.insert(node.to_owned());
        self
    }

    fn fleet(&self) -> Fleet<'_> {
        Fleet::of(&self.snapshot, &self.policy, self.put_off.clone())
    }

    fn plan(&self) -> Plan {
        plan(&self.fleet(), &self.policy, &at(self.now))
    }

    /// What is written, statuses left out.
    fn writes(&self) -> Vec<String> {
        let actions = self.plan().actions;
        let others = actions.iter().filter(|action| !matches!(action, Action::SetStatus { .. }));
        others.map(ToString::to_string).collect()
    }

    /// Nodes that get a new spec.
    fn granted(&self) -> Vec<String> {
        let actions = self.plan().actions;
        let granted = actions.into_iter().filter_map(|action| match action {
            Action::ApplyWasmNode { node, .. } => Some(node),
            _ => None,
        });
        granted.collect()
    }

    /// The world after everything that is planned was written.
    fn written(mut self) -> Self {
        for action in self.plan().actions {
            match action {
                Action::ApplyWasmNode { node, spec } => self.respecify(&node, *spec),
                Action::DeleteWasmNode { node, .. } => {
                    self.snapshot.wasm_nodes.retain(|old| old.name_any() != node);
                }
                Action::SetStatus { runtime, status, .. } => {
                    let mut declared = self.take_declared(&runtime);
                    match &mut declared.0 {
                        Ok(readable) => readable.status = Some(*status),
                        Err(unreadable) => unreadable.status = *status,
                    }
                    self.snapshot.runtimes.push(Arc::new(declared));
                }
                Action::ApplyRuntimeClass(class) => {
                    self.snapshot.classes.retain(|old| old.metadata.name != class.metadata.name);
                    self.snapshot.classes.push(Arc::new(*class));
                }
                Action::DeleteRuntimeClass { name, .. } => {
                    self.snapshot.classes.retain(|old| old.metadata.name.as_deref() != Some(&name));
                }
                Action::Finalize { .. } | Action::ClearLabels { .. } | Action::PatchRuntimeClass { .. } => {}
            }
        }
        self
    }

    fn take_runtime(&mut self, wanted: &str) -> WasmRuntime {
        self.take_declared(wanted).0.unwrap()
    }

    fn take_declared(&mut self, wanted: &str) -> Declared {
        let at = self.snapshot.runtimes.iter().position(|old| old.name_any() == wanted).unwrap();
        self.snapshot.runtimes.remove(at).as_ref().clone()
    }

    fn respecify(&mut self, node: &str, spec: kwasm_api::wasm_node::WasmNodeSpec) {
        let position = self.snapshot.wasm_nodes.iter().position(|old| old.name_any() == node);
        let mut wasm_node = match position {
            Some(at) => self.snapshot.wasm_nodes.remove(at).0.clone().unwrap(),
            None => crate::testing::wasm_node(node, &[]),
        };
        wasm_node.metadata.generation = Some(wasm_node.metadata.generation.unwrap_or(0) + 1);
        wasm_node.spec = spec;
        self.snapshot.wasm_nodes.push(Arc::new(DeserializeGuard(Ok(wasm_node))));
    }
}
