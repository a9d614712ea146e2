//! What is known of one node: from the stores, and for a Job that is over from its pod.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::ListParams;
use kwasm_api::wasm_node::{Phase, WasmNode};

use super::plan::Seen;
use super::{Context, Error, job, outcome};
use crate::observed::{Job, JobProgress};

/// Seconds after which a pod that does not run is worth a look.
const PATIENCE: i64 = 10;

/// What is known of the Job for a `WasmNode` as it is now.
pub(super) async fn seen(context: &Context, wasm_node: &WasmNode, jobs: &[&Job], now: &Time) -> Result<Seen, Error> {
    let name = job::name(wasm_node);
    let Some(job) = jobs.iter().find(|job| job.name() == name) else { return Ok(Seen::Missing) };
    let (at, failed) = match job.progress(now) {
        JobProgress::Running => return Ok(Seen::Active { waiting: None }),
        JobProgress::Pending => {
            let waiting = if is_old(job, now) { outcome::waiting(&pods(context, &name).await?) } else { None };
            return Ok(Seen::Active { waiting });
        }
        JobProgress::Succeeded { at } => (at, None),
        JobProgress::Failed { at, reason, message } => (at, Some(format!("{reason}: {message}"))),
    };
    let wanted = wasm_node.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Changing));
    let outcome = if wanted { outcome::of(&pods(context, &name).await?) } else { outcome::Outcome::default() };
    Ok(Seen::Ended { at, failed, outcome: Box::new(outcome) })
}

fn is_old(job: &Job, now: &Time) -> bool {
    let created = job.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| now.0.as_second() - created.0.as_second() >= PATIENCE)
}

async fn pods(context: &Context, job: &str) -> Result<Vec<Pod>, Error> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &context.jobs.namespace);
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let list = api.list(&params).await.map_err(|source| Error::Pods { job: job.to_owned(), source })?;
    Ok(list.items)
}
