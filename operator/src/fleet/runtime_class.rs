//! The RuntimeClass of a runtime: published with the first verified node, removed with the last.

use std::collections::BTreeMap;

use k8s_openapi::api::node::v1::{Overhead, RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kwasm_api::names::{
    CLASS_ADOPTED_FOR, CLASS_APPLIED, CLASS_MADE_FOR, FIELD_MANAGER, MANAGED_BY, RUNTIME_READY, runtime_label,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::observe::Fleet;
use super::plan::Action;
use super::validate::Candidate;

/// What to do about RuntimeClasses.
pub(crate) fn plan(fleet: &Fleet<'_>) -> Vec<Action> {
    let published = fleet.candidates.iter().filter_map(|candidate| publish(candidate, fleet));
    let withdrawn = fleet.classes.values().filter_map(|class| withdraw(class, fleet));
    published.chain(withdrawn).collect()
}

/// Why the RuntimeClass cannot be used, if it cannot.
pub(crate) fn problem(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> Option<String> {
    let name = candidate.object.runtime_class_name();
    let class = fleet.classes.get(name)?;
    match made_for(class) {
        Some(own) if own == candidate.runtime.name => None,
        Some(other) => Some(format!("RuntimeClass {name} belongs to the WasmRuntime {other}, which nodes still have")),
        None if class.handler == candidate.runtime.handler => None,
        None => Some(format!(
            "RuntimeClass {name} exists with handler {}, which cannot be changed: delete it, or name another in \
             spec.runtimeClass.name",
            class.handler
        )),
    }
}

/// Whether pods can use the RuntimeClass, and go to verified nodes only.
pub(crate) fn is_published(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> bool {
    let class = fleet.classes.get(candidate.object.runtime_class_name());
    class.is_some_and(|class| {
        class.handler == candidate.runtime.handler && selects(class, &runtime_label(&candidate.runtime.name))
    }) && problem(candidate, fleet).is_none()
}

fn publish(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> Option<Action> {
    if is_gone(candidate, fleet) {
        return None;
    }
    match fleet.classes.get(candidate.object.runtime_class_name()) {
        None => is_served(candidate, fleet).then(|| Action::ApplyRuntimeClass(Box::new(build(candidate)))),
        // It cannot be changed; one of ours is withdrawn first.
        Some(class) if class.handler != candidate.runtime.handler => None,
        Some(class) => match made_for(class) {
            Some(own) if own == candidate.runtime.name => {
                let wanted = build(candidate);
                (!is_as_applied(class, &wanted)).then(|| Action::ApplyRuntimeClass(Box::new(wanted)))
            }
            Some(_) => None,
            None => adopt(class, candidate),
        },
    }
}

/// Somebody else's RuntimeClass: its pods must go to verified nodes, everything else stays as its owner wrote it.
fn adopt(class: &RuntimeClass, candidate: &Candidate<'_>) -> Option<Action> {
    let runtime = &candidate.runtime.name;
    let mark = json!(format!("{runtime}/{}", class.name_any()));
    (!selects(class, &runtime_label(runtime))).then(|| patch(class, runtime, &json!(RUNTIME_READY), &mark))
}

/// Takes back what was published and is not wanted any more.
fn withdraw(class: &RuntimeClass, fleet: &Fleet<'_>) -> Option<Action> {
    if let Some(runtime) = made_for(class) {
        let uid = class.uid().unwrap_or_default();
        let delete = || Action::DeleteRuntimeClass { name: class.name_any(), uid };
        return (!is_wanted(class, runtime, fleet)).then(delete);
    }
    let runtime = marked(class, CLASS_ADOPTED_FOR)?;
    (!is_wanted(class, runtime, fleet)).then(|| patch(class, runtime, &Value::Null, &Value::Null))
}

/// Whether a RuntimeClass that was published for a runtime still stands for it.
fn is_wanted(class: &RuntimeClass, runtime: &str, fleet: &Fleet<'_>) -> bool {
    let name = class.name_any();
    let claimant = fleet.candidates.iter().find(|candidate| candidate.object.runtime_class_name() == name);
    match claimant {
        // With another handler it serves the nodes that still have the old one, until a node has the new one.
        Some(own) if own.runtime.name == runtime => {
            !is_gone(own, fleet) && (class.handler == own.runtime.handler || !is_served(own, fleet))
        }
        Some(other) if is_served(other, fleet) => false,
        // A runtime that cannot be carried out stays on its nodes as it is, and with it its RuntimeClass.
        _ => {
            !fleet.candidates.iter().any(|candidate| candidate.runtime.name == runtime)
                && fleet.members.iter().any(|member| member.may_have(runtime))
        }
    }
}

fn is_gone(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> bool {
    let name = candidate.runtime.name.as_str();
    !fleet.members.iter().any(|member| member.desired.contains_key(name) || member.may_have(name))
}

fn is_served(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> bool {
    fleet.members.iter().any(|member| member.serves(&candidate.runtime))
}

fn patch(class: &RuntimeClass, runtime: &str, value: &Value, mark: &Value) -> Action {
    let patch = json!({
        "metadata": {"uid": class.uid(), "annotations": {CLASS_ADOPTED_FOR: mark}},
        "scheduling": {"nodeSelector": {runtime_label(runtime): value}},
    });
    Action::PatchRuntimeClass { name: class.name_any(), patch }
}

/// Whether the pods of a class go only where a node carries the label of a verified runtime.
fn selects(class: &RuntimeClass, label: &str) -> bool {
    let selector = class.scheduling.as_ref().and_then(|scheduling| scheduling.node_selector.as_ref());
    selector.and_then(|selector| selector.get(label)).is_some_and(|value| value == RUNTIME_READY)
}

/// The runtime that the operator made a RuntimeClass for; `None` if somebody else made it.
fn made_for(class: &RuntimeClass) -> Option<&str> {
    let is_managed = class.labels().get(MANAGED_BY).is_some_and(|manager| manager == FIELD_MANAGER);
    marked(class, CLASS_MADE_FOR).filter(|_| is_managed)
}

fn marked<'a>(class: &'a RuntimeClass, annotation: &str) -> Option<&'a str> {
    let (runtime, name) = class.annotations().get(annotation)?.split_once('/')?;
    (class.metadata.name.as_deref() == Some(name)).then_some(runtime)
}

/// Whether nothing has to be applied. The API server writes quantities in its own way (0.5 becomes 500m), and others
/// may add fields: so what was applied is known by its digest, and only what decides where pods go is looked at.
fn is_as_applied(class: &RuntimeClass, wanted: &RuntimeClass) -> bool {
    let scheduling = |class: &RuntimeClass| class.scheduling.clone().unwrap_or_default();
    let (now, then) = (scheduling(class), scheduling(wanted));
    let selector = now.node_selector.unwrap_or_default();
    class.annotations().get(CLASS_APPLIED) == wanted.annotations().get(CLASS_APPLIED)
        && then.node_selector.iter().flatten().all(|(key, value)| selector.get(key) == Some(value))
        && (then.tolerations.is_none() || then.tolerations == now.tolerations)
}

fn build(candidate: &Candidate<'_>) -> RuntimeClass {
    let spec = &candidate.object.spec.runtime_class;
    let name = candidate.object.runtime_class_name().to_owned();
    let label = runtime_label(&candidate.runtime.name);
    let mut class = RuntimeClass {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        handler: candidate.runtime.handler.clone(),
        overhead: (!spec.overhead.is_empty()).then(|| Overhead { pod_fixed: Some(spec.overhead.clone()) }),
        scheduling: Some(Scheduling {
            node_selector: Some(BTreeMap::from([(label, RUNTIME_READY.to_owned())])),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        }),
    };
    let made_for = format!("{}/{name}", candidate.runtime.name);
    let marks = [(CLASS_APPLIED, digest(&class)), (CLASS_MADE_FOR, made_for)];
    class.metadata.annotations = Some(marks.map(|(key, value)| (key.to_owned(), value)).into());
    class
}

fn digest(class: &RuntimeClass) -> String {
    // Serialising cannot fail: every map key is a string.
    let json = serde_json::to_vec(class).unwrap_or_default();
    Sha256::digest(json).iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
