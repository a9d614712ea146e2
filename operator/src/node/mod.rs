//! Brings one node to its `WasmNode.spec`: observe → plan → apply → status, one node at a time.

mod apply;
mod backoff;
mod job;
mod labels;
mod observe;
mod outcome;
mod plan;
mod say;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Config, Error as ControllerError, applier};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use kwasm_api::wasm_node::WasmNode;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, warn};

#[cfg(test)]
pub(crate) use job::order;
pub(crate) use job::{JobSettings, Proxies};

use crate::metrics::{Controller, Metrics};
use crate::observed::Job;
use crate::world::{Guarded, World};

/// Nodes that are worked on at the same time.
const CONCURRENCY: u16 = 16;

/// What a reconcile needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) jobs: JobSettings,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a node could not be worked on; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What the Job's pod said is not known.
    #[error("list the pods of Job {job}: {source}")]
    Pods {
        /// Its name.
        job: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// Why the Job has no pod is not known.
    #[error("list the events of Job {job}: {source}")]
    Events {
        /// Its name.
        job: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// An action failed.
    #[error("{what}: {source}")]
    Write {
        /// The action.
        what: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// The status was not written.
    #[error("write the status of the WasmNode: {source}")]
    Status {
        /// What the API server said.
        source: kube::Error,
    },
}

/// Works on nodes whose names come through `queue`, until that closes.
pub(crate) async fn run(context: Arc<Context>, queue: UnboundedReceiver<ObjectRef<Guarded<WasmNode>>>) {
    let queue = futures::stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|name| (Ok::<_, std::convert::Infallible>(name), queue))
    });
    let config = Config::default().concurrency(CONCURRENCY);
    let store = context.world.wasm_nodes.clone();
    let reconciler = |object, context| Box::pin(reconcile(object, context));
    applier(reconciler, on_error, context, store, Box::pin(queue), config)
        .for_each(async |result| match result {
            Err(ControllerError::ObjectNotFound(node)) => debug!(%node, "no WasmNode"),
            Err(ControllerError::ReconcilerFailed(..)) | Ok(_) => {}
            Err(error) => warn!(%error, "the node controller"),
        })
        .await;
}

async fn reconcile(object: Arc<Guarded<WasmNode>>, context: Arc<Context>) -> Result<Action, Error> {
    let _timer = context.metrics.start(Controller::Node);
    let Ok(wasm_node) = &object.0 else { return Ok(Action::await_change()) };
    let name = wasm_node.name_any();
    let node = context.world.nodes.get(&ObjectRef::new(&name));
    // Another node of the same name is none of this WasmNode's business; the garbage collector takes it.
    let Some(node) = node.filter(|node| node.uid() == wasm_node.spec.node_uid) else {
        return Ok(Action::await_change());
    };
    if wasm_node.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let jobs = context.world.jobs.state_filter(|job: &Job| job.node == name);
    let jobs: Vec<&Job> = jobs.iter().map(AsRef::as_ref).collect();
    let now = Time(Timestamp::now());
    let job = observe::seen(&context, wasm_node, &jobs, &now).await?;
    let current = job::name(wasm_node);
    let others = jobs.into_iter().filter(|job| job.name() != current).collect();
    let plan = plan::plan(&plan::Observed { wasm_node, node: &node, job, others }, &now);
    let again = plan.again;
    apply::apply(&context, wasm_node, &node, plan).await?;
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

fn on_error(object: Arc<Guarded<WasmNode>>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed(Controller::Node);
    warn!(node = object.name_any(), %error, "the node is tried again");
    Action::requeue(Duration::from_secs(5))
}
