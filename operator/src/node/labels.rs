//! Which labels a node should carry: only what was verified on it.

use std::collections::BTreeMap;

use kwasm_api::names::{KWASM_PROVISIONED, RUNTIME_LABEL_PREFIX, RUNTIME_READY, provisioned_value, runtime_label};
use kwasm_api::report::{NodeState, RuntimeState};
use kwasm_api::wasm_node::{Phase, WasmNode, WasmNodeStatus};

use crate::observed::Node;

/// Changes of labels: a value, or `None` to take the label away.
pub(crate) type LabelPatch = BTreeMap<String, Option<String>>;

/// What has to change so that `node` advertises what `status` shows as verified for the spec, and nothing else.
pub(crate) fn patch(wasm_node: &WasmNode, status: &WasmNodeStatus, node: &Node) -> LabelPatch {
    let wanted = wanted(wasm_node, status, node);
    let stray = node.labels().filter(|(key, _)| is_ours(key) && !wanted.contains_key(*key));
    let mut patch: LabelPatch = stray.map(|(key, _)| (key.to_owned(), None)).collect();
    patch.extend(
        wanted
            .into_iter()
            .filter(|(key, value)| node.label(key) != Some(value.as_str()))
            .map(|(key, value)| (key, Some(value))),
    );
    patch
}

/// Labels to take away before the host is touched; none is added, because another installer may still be at work.
/// Those of the runtimes in the status are named even where the node seems not to have them: what is known of the
/// node may be old.
pub(crate) fn withdrawn(wasm_node: &WasmNode, status: &WasmNodeStatus, node: &Node) -> LabelPatch {
    let wanted = wanted(wasm_node, status, node);
    let seen = node.labels().map(|(key, _)| key.to_owned()).filter(|key| is_ours(key));
    let shown = status.runtimes.iter().map(|runtime| runtime_label(&runtime.name));
    // Only what has been on the node can have been advertised.
    let provisioned = (!status.runtimes.is_empty()).then(|| KWASM_PROVISIONED.to_owned());
    let all = seen.chain(shown).chain(provisioned);
    all.filter(|key| !wanted.contains_key(key)).map(|key| (key, None)).collect()
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
    // Nobody has looked at this host yet.
    if let (Some(verified), Some(now)) = (&status.host, &node.host)
        && !verified.is_same_installation(now)
    {
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
