//! Which labels a node should carry: only what was verified on it.

use std::collections::BTreeMap;

use kwasm_api::names::{KWASM_PROVISIONED, RUNTIME_LABEL_PREFIX, RUNTIME_READY, provisioned_value, runtime_label};
use kwasm_api::report::{NodeState, RuntimeState};
use kwasm_api::wasm_node::{Phase, WasmNode, WasmNodeStatus};

use crate::observed::Node;

/// Changes of labels: a value, or `None` to take the label away.
pub(crate) type LabelPatch = BTreeMap<String, Option<String>>;

/// What has to change so that `node` advertises what `status` shows as verified for the spec, and nothing else.
/// Labels of the runtimes in the status are named even where the node seems not to have them when `certain` is
/// asked for: what is known of the node may be old, and a change of the host is about to start.
pub(crate) fn patch(wasm_node: &WasmNode, status: &WasmNodeStatus, node: &Node, certain: bool) -> LabelPatch {
    let wanted = wanted(wasm_node, status, node);
    let mut patch: LabelPatch = node
        .labels()
        .filter(|(key, _)| is_ours(key) && !wanted.contains_key(*key))
        .map(|(key, _)| (key.to_owned(), None))
        .collect();
    if certain {
        let shown = status.runtimes.iter().map(|runtime| runtime_label(&runtime.name));
        let all = shown.chain([KWASM_PROVISIONED.to_owned()]);
        patch.extend(all.filter(|key| !wanted.contains_key(key)).map(|key| (key, None)));
    }
    patch.extend(
        wanted
            .into_iter()
            .filter(|(key, value)| node.label(key) != Some(value.as_str()))
            .map(|(key, value)| (key, Some(value))),
    );
    patch
}

/// Labels that only the operator sets.
fn is_ours(key: &str) -> bool {
    key == KWASM_PROVISIONED || key.starts_with(RUNTIME_LABEL_PREFIX)
}

fn wanted(wasm_node: &WasmNode, status: &WasmNodeStatus, node: &Node) -> BTreeMap<String, String> {
    let damaged = status.report.as_ref().and_then(|report| report.failure.as_ref());
    if damaged.is_some_and(|failure| failure.node_state == NodeState::NeedsAttention) {
        return BTreeMap::new();
    }
    let spec = &wasm_node.spec.runtimes;
    let verified = spec.iter().filter(|wanted| {
        status.runtimes.iter().any(|found| {
            found.name == wanted.name && found.revision == wanted.revision && found.state == RuntimeState::Ready
        }) && !node.denies(&wanted.handler)
    });
    let mut labels: BTreeMap<_, _> =
        verified.map(|runtime| (runtime_label(&runtime.name), RUNTIME_READY.to_owned())).collect();
    if status.phase == Some(Phase::Ready) && !spec.is_empty() && labels.len() == spec.len() {
        labels.insert(KWASM_PROVISIONED.to_owned(), provisioned_value(node.name()).to_owned());
    }
    labels
}
