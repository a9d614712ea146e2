//! The RuntimeClass of a runtime: published with the first verified node, removed with the last.

use std::collections::BTreeMap;

use k8s_openapi::api::node::v1::{Overhead, RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kwasm_api::names::{FIELD_MANAGER, MANAGED_BY, RUNTIME_READY, runtime_label};
use serde_json::json;

use super::observe::Fleet;
use super::plan::Action;
use super::validate::Candidate;

/// What to do about the RuntimeClass of one runtime, if anything.
pub(crate) fn plan(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> Option<Action> {
    let name = candidate.object.runtime_class_name();
    let existing = fleet.classes.get(name).copied();
    if is_gone(candidate, fleet) {
        return existing.and_then(|class| withdraw(class, candidate));
    }
    match existing {
        None => is_served(candidate, fleet).then(|| Action::ApplyRuntimeClass(Box::new(build(candidate)))),
        Some(class) if class.handler != candidate.runtime.handler => None,
        Some(class) if is_ours(class) => {
            let wanted = build(candidate);
            let same = class.scheduling == wanted.scheduling && class.overhead == wanted.overhead;
            (!same).then(|| Action::ApplyRuntimeClass(Box::new(wanted)))
        }
        Some(class) => adopt(class, candidate),
    }
}

/// Why the RuntimeClass cannot be used, if it cannot.
pub(crate) fn problem(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> Option<String> {
    let name = candidate.object.runtime_class_name();
    let class = fleet.classes.get(name).filter(|class| class.handler != candidate.runtime.handler)?;
    Some(format!(
        "RuntimeClass {name} exists with handler {}, which cannot be changed: delete it, or name another in \
         spec.runtimeClass.name",
        class.handler
    ))
}

fn is_gone(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> bool {
    let name = candidate.runtime.name.as_str();
    !fleet.members.iter().any(|member| member.desired.contains_key(name) || member.may_have(name))
}

fn is_served(candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> bool {
    fleet.members.iter().any(|member| member.serves(&candidate.runtime))
}

/// Somebody else's RuntimeClass: its pods must go to verified nodes, everything else stays as its owner wrote it.
fn adopt(class: &RuntimeClass, candidate: &Candidate<'_>) -> Option<Action> {
    let label = runtime_label(&candidate.runtime.name);
    let selector = class.scheduling.as_ref().and_then(|scheduling| scheduling.node_selector.as_ref());
    let has_it = selector.and_then(|selector| selector.get(&label)).is_some_and(|value| value == RUNTIME_READY);
    (!has_it).then(|| patch(class, &label, Some(RUNTIME_READY)))
}

fn withdraw(class: &RuntimeClass, candidate: &Candidate<'_>) -> Option<Action> {
    if is_ours(class) {
        let uid = class.uid().unwrap_or_default();
        return Some(Action::DeleteRuntimeClass { name: class.name_any(), uid });
    }
    let label = runtime_label(&candidate.runtime.name);
    let selector = class.scheduling.as_ref().and_then(|scheduling| scheduling.node_selector.as_ref());
    selector.is_some_and(|selector| selector.contains_key(&label)).then(|| patch(class, &label, None))
}

fn patch(class: &RuntimeClass, label: &str, value: Option<&str>) -> Action {
    let patch = json!({"metadata": {"uid": class.uid()}, "scheduling": {"nodeSelector": {label: value}}});
    Action::PatchRuntimeClass { name: class.name_any(), patch }
}

fn is_ours(class: &RuntimeClass) -> bool {
    class.labels().get(MANAGED_BY).is_some_and(|manager| manager == FIELD_MANAGER)
}

fn build(candidate: &Candidate<'_>) -> RuntimeClass {
    let spec = &candidate.object.spec.runtime_class;
    let label = runtime_label(&candidate.runtime.name);
    RuntimeClass {
        metadata: ObjectMeta {
            name: Some(candidate.object.runtime_class_name().to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        handler: candidate.runtime.handler.clone(),
        overhead: (!spec.overhead.is_empty()).then(|| Overhead { pod_fixed: Some(spec.overhead.clone()) }),
        scheduling: Some(Scheduling {
            node_selector: Some(BTreeMap::from([(label, RUNTIME_READY.to_owned())])),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        }),
    }
}
