//! Doing what a node's plan says.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use kwasm_api::names::FIELD_MANAGER;
use kwasm_api::wasm_node::{WasmNode, WasmNodeStatus};
use serde_json::json;
use tracing::{info, warn};

use super::job;
use super::labels::LabelPatch;
use super::plan::{Action, Plan};
use super::say::Note;
use super::{Context, Error};
use crate::observed::Node;

/// Bytes of an Event's note, about; the API server refuses more than 1024.
const NOTE_MAX: usize = 1000;

/// Carries out a plan: actions first, so that the status speaks of what was done.
pub(super) async fn apply(context: &Context, wasm_node: &WasmNode, node: &Node, plan: Plan) -> Result<(), Error> {
    for action in plan.actions {
        let what = format!("{action:?}");
        perform(context, wasm_node, node, action).await.map_err(|source| Error::Write { what, source })?;
    }
    if let Some(status) = plan.status {
        write_status(context, wasm_node, &status).await.map_err(|source| Error::Status { source })?;
    }
    if let Some(note) = plan.note {
        tell(context, wasm_node, node, note).await;
    }
    Ok(())
}

async fn perform(context: &Context, wasm_node: &WasmNode, node: &Node, action: Action) -> kube::Result<()> {
    context.metrics.writes.inc();
    match action {
        Action::Label(patch) => label(context, node, &patch).await,
        Action::CreateJob => {
            let jobs = Api::<Job>::namespaced(context.client.clone(), &context.jobs.namespace);
            let job = job::build(wasm_node, &context.jobs);
            info!(node = node.name(), job = job.name_any(), "start the installer");
            // The name says which Order of which WasmNode it is for: one that exists is the one that was asked for.
            unless(kube::core::Status::is_already_exists, jobs.create(&PostParams::default(), &job).await.map(drop))
        }
        Action::DeleteJob(name) => {
            let jobs = Api::<Job>::namespaced(context.client.clone(), &context.jobs.namespace);
            unless(kube::core::Status::is_not_found, jobs.delete(&name, &DeleteParams::background()).await.map(drop))
        }
    }
}

/// A merge patch touches our keys only; the UID refuses another node of the same name.
async fn label(context: &Context, node: &Node, labels: &LabelPatch) -> kube::Result<()> {
    info!(node = node.name(), ?labels, "label the node");
    let nodes = Api::<Node>::all(context.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"uid": node.uid(), "labels": labels}}));
    nodes.patch_metadata(node.name(), &params(), &patch).await.map(drop)
}

async fn write_status(context: &Context, wasm_node: &WasmNode, status: &WasmNodeStatus) -> kube::Result<()> {
    context.metrics.writes.inc();
    let api = Api::<WasmNode>::all(context.client.clone());
    let patch = Patch::Apply(json!({
        "apiVersion": WasmNode::api_version(&()),
        "kind": WasmNode::kind(&()),
        "metadata": {"name": wasm_node.name_any(), "uid": wasm_node.uid()},
        "status": status,
    }));
    let name = wasm_node.name_any();
    unless(kube::core::Status::is_not_found, api.patch_status(&name, &params().force(), &patch).await.map(drop))
}

/// An Event: of a beginning at the `WasmNode`, of an end at the Node too. One that is lost changes nothing.
async fn tell(context: &Context, wasm_node: &WasmNode, node: &Node, note: Note) {
    let Note { reason, text, warning, end } = note;
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason,
        note: Some(text.char_indices().take_while(|(at, _)| *at < NOTE_MAX).map(|(_, letter)| letter).collect()),
        action: "Provision".to_owned(),
        secondary: None,
    };
    let of_node = end.then(|| node.object_ref(&()));
    for object in of_node.into_iter().chain([wasm_node.object_ref(&())]) {
        context.metrics.writes.inc();
        if let Err(error) = context.recorder.publish(&event, &object).await {
            warn!(node = node.name(), %error, "an Event was not written");
        }
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// An answer that means that the work was done before is no error.
fn unless(done: fn(&kube::core::Status) -> bool, result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if done(&status) => Ok(()),
        other => other,
    }
}
