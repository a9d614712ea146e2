//! Writing what the fleet's plan says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use kwasm_api::names::FIELD_MANAGER;
use kwasm_api::wasm_node::{WasmNode, WasmNodeSpec};
use kwasm_api::wasm_runtime::WasmRuntime;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::Context;
use super::holdoff::Holdoff;
use super::plan::Action;
use crate::metrics::Controller;
use crate::observed::Node;
use crate::world::Guarded;

/// Writes under way at the same time.
const CONCURRENCY: usize = 16;

/// How long to wait for the watch to show what was written.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Carries out every action; one that fails does not stop the others, and is held off.
pub(super) async fn apply(context: &Context, actions: Vec<Action>, holdoff: &mut Holdoff) {
    let mut written = BTreeMap::new();
    // WasmRuntimes lose their finalizer and nodes get their spec in the plan's order, but none waits for another.
    let results = futures::stream::iter(actions).map(|action| async move {
        let (what, target) = (action.to_string(), action.target());
        context.metrics.writes.inc();
        (what, target, perform(context, action).await)
    });
    let mut results = results.buffered(CONCURRENCY);
    while let Some((what, target, result)) = results.next().await {
        match result {
            Ok(generation) => {
                info!("{what}");
                holdoff.succeeded(&target);
                written.extend(generation);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                // Somebody else wrote meanwhile; the watch tells, and everything is decided anew.
                debug!("{what}: {}", status.message);
            }
            Err(error) => {
                warn!(%error, "{what}; it is tried again");
                context.metrics.failed(Controller::Fleet);
                holdoff.failed(target, Instant::now());
            }
        }
    }
    catch_up(&context.world.wasm_nodes, &context.trigger, &written).await;
}

/// Waits until the store shows what was written: deciding from an older picture could break the budget.
async fn catch_up(wasm_nodes: &Store<Guarded<WasmNode>>, trigger: &Notify, written: &BTreeMap<String, i64>) {
    let shows = |(node, generation): (&String, &i64)| {
        let seen = wasm_nodes.get(&ObjectRef::new(node));
        seen.is_some_and(|seen| seen.meta().generation >= Some(*generation))
    };
    let wait = async {
        let mut heard = false;
        while !written.iter().all(shows) {
            trigger.notified().await;
            heard = true;
        }
        heard
    };
    let heard = tokio::time::timeout(CATCH_UP, wait).await.unwrap_or_else(|_| {
        warn!("the watch of WasmNodes does not show what was written {CATCH_UP:?} ago");
        true
    });
    // The notices that were heard may also have been of something else. Without one nothing has changed, and deciding
    // again would come to the same.
    if heard {
        trigger.notify_one();
    }
}

/// Name and generation of a `WasmNode` that was written.
type Written = Option<(String, i64)>;

async fn perform(context: &Context, action: Action) -> kube::Result<Written> {
    let client = context.client.clone();
    match action {
        Action::Finalize { runtime, version, finalizers } => {
            let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            let api = Api::<WasmRuntime>::all(client);
            api.patch_metadata(&runtime, &merge(), &Patch::Merge(patch)).await.map(|_| None)
        }
        Action::ApplyWasmNode { node, spec } => apply_wasm_node(context, node, &spec).await,
        Action::DeleteWasmNode { node, uid } => delete(Api::<WasmNode>::all(client), &node, uid).await,
        Action::ClearLabels { node, uid, labels } => {
            let labels: BTreeMap<_, Option<String>> = labels.into_iter().map(|label| (label, None)).collect();
            let patch = Patch::Merge(json!({"metadata": {"uid": uid, "labels": labels}}));
            Api::<Node>::all(client).patch_metadata(&node, &merge(), &patch).await.map(|_| None)
        }
        Action::ApplyRuntimeClass(class) => {
            let name = class.metadata.name.clone().unwrap_or_default();
            let patch = Patch::Apply(typed::<RuntimeClass, _>(&*class));
            Api::<RuntimeClass>::all(client).patch(&name, &merge().force(), &patch).await.map(|_| None)
        }
        Action::PatchRuntimeClass { name, patch } => {
            Api::<RuntimeClass>::all(client).patch(&name, &merge(), &Patch::Merge(patch)).await.map(|_| None)
        }
        Action::DeleteRuntimeClass { name, uid } => delete(Api::<RuntimeClass>::all(client), &name, uid).await,
        Action::SetStatus { runtime, uid, status } => {
            let patch = json!({"metadata": {"name": runtime, "uid": uid}, "status": status});
            let patch = Patch::Apply(typed::<WasmRuntime, _>(&patch));
            Api::<WasmRuntime>::all(client).patch_status(&runtime, &merge().force(), &patch).await.map(|_| None)
        }
    }
}

async fn apply_wasm_node(context: &Context, node: String, spec: &WasmNodeSpec) -> kube::Result<Written> {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": spec.node_uid});
    let object = json!({"metadata": {"name": node, "ownerReferences": [owner]}, "spec": spec});
    let patch = Patch::Apply(typed::<WasmNode, _>(&object));
    let api = Api::<WasmNode>::all(context.client.clone());
    let written = api.patch_metadata(&node, &merge().force(), &patch).await?;
    Ok(written.metadata.generation.map(|generation| (node, generation)))
}

async fn delete<K>(api: Api<K>, name: &str, uid: String) -> kube::Result<Written>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let preconditions = Preconditions { uid: Some(uid), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(status)) if Status::is_not_found(&status) => Ok(None),
        other => other.map(|_| None),
    }
}

/// An object for server-side apply, which wants to be told its type.
fn typed<K: Resource<DynamicType = ()>, T: serde::Serialize>(object: &T) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    value
}

fn merge() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use kube::core::DeserializeGuard;
    use kube::runtime::reflector::store::store;
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::testing::wasm_node;

    #[tokio::test]
    async fn writes_that_changed_nothing_do_not_ask_for_another_decision() {
        let (wasm_nodes, mut writer) = store();
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(wasm_node("a", &[])))));
        let trigger = Notify::new();
        catch_up(&wasm_nodes, &trigger, &BTreeMap::from([("a".to_owned(), 1)])).await;
        assert!(trigger.notified().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_heard_while_catching_up_is_decided_upon() {
        let (wasm_nodes, mut writer) = store();
        let trigger = Notify::new();
        let written = BTreeMap::from([("a".to_owned(), 1)]);
        let watch = async {
            writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(wasm_node("a", &[])))));
            trigger.notify_one();
        };
        futures::join!(catch_up(&wasm_nodes, &trigger, &written), watch);
        assert!(trigger.notified().now_or_never().is_some());
    }
}
