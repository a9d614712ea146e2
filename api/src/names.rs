//! Labels, annotations and finalizers: the words that other people's objects carry.

/// A node opts in by this annotation, or by a label of the same name, with the value [`OPTED_IN`].
pub const KWASM_NODE: &str = "kwasm.sh/kwasm-node";

/// The only value of [`KWASM_NODE`] that counts.
pub const OPTED_IN: &str = "true";

/// Label of a node on which every wanted runtime is verified; its value is the node's name, as
/// KWasm 0.2 wrote it, cut where it is longer than a label value may be (63 characters).
pub const KWASM_PROVISIONED: &str = "kwasm.sh/kwasm-provisioned";

/// Prefix of a node's label per verified runtime: `runtime.kwasm.sh/<runtime>=ready`.
pub const RUNTIME_LABEL_PREFIX: &str = "runtime.kwasm.sh/";

/// The value of a [`RUNTIME_LABEL_PREFIX`] label.
pub const RUNTIME_READY: &str = "ready";

/// Label of every installer Job and its Pod, with the value `true`, as KWasm 0.2 wrote it.
pub const JOB: &str = "kwasm.sh/job";

/// Annotation of an installer Job: the name of its node, which may be too long for a label.
pub const JOB_NODE: &str = "kwasm.sh/node";

/// Annotation of an installer Job: the digest of its [`Order`](crate::Order).
pub const JOB_ORDER: &str = "kwasm.sh/order";

/// Finalizer of a `WasmRuntime`: it goes when no node has the runtime any more.
pub const FINALIZER: &str = "kwasm.sh/uninstall";

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "kwasm-operator";

/// Annotation of a RuntimeClass that the operator made, `<WasmRuntime>/<RuntimeClass>`: these alone it deletes. A copy
/// that somebody made under another name is not meant.
pub const CLASS_MADE_FOR: &str = "kwasm.sh/made-for";

/// Annotation of somebody else's RuntimeClass that the operator sends to verified nodes, `<WasmRuntime>/<RuntimeClass>`.
pub const CLASS_ADOPTED_FOR: &str = "kwasm.sh/adopted-for";

/// Annotation of a RuntimeClass that the operator made: a digest of what it applied.
pub const CLASS_APPLIED: &str = "kwasm.sh/applied";

/// Label of what the operator made, with the value [`FIELD_MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The longest value a label may have (Kubernetes API conventions).
pub const LABEL_VALUE_MAX: usize = 63;

/// The label that says that `runtime` is verified on a node.
#[must_use]
pub fn runtime_label(runtime: &str) -> String {
    format!("{RUNTIME_LABEL_PREFIX}{runtime}")
}

/// The value of [`KWASM_PROVISIONED`] for a node: its name, cut to a valid label value.
#[must_use]
pub fn provisioned_value(node: &str) -> &str {
    let mut end = node.len().min(LABEL_VALUE_MAX);
    while !node.is_char_boundary(end) {
        end -= 1;
    }
    node[..end].trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_node_name_is_its_own_label_value() {
        assert_eq!(provisioned_value("ip-10-0-0-1.ec2.internal"), "ip-10-0-0-1.ec2.internal");
    }

    #[test]
    fn a_long_node_name_is_cut_to_a_value_that_ends_alphanumerically() {
        let node = format!("{}.example.com", "a".repeat(62));
        assert_eq!(provisioned_value(&node), "a".repeat(62));
    }
}
