//! What is known of one node: from the stores, and for a Job that is over from its pod.

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::Api;
use kube::api::ListParams;
use kwasm_api::wasm_node::{Phase, WasmNode};

use super::plan::Seen;
use super::{Context, Error, job, outcome};
use crate::observed::{Job, JobProgress};

/// After this time a pod that does not run is worth a look.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// After this time a Job without a pod is worth a look: its controller takes a moment.
const CREATION: SignedDuration = SignedDuration::from_secs(30);

/// What is known of the Job for a `WasmNode` as it is now.
pub(super) async fn seen(context: &Context, wasm_node: &WasmNode, jobs: &[&Job], now: &Time) -> Result<Seen, Error> {
    let name = job::name(wasm_node);
    let Some(job) = jobs.iter().find(|job| job.name() == name) else { return Ok(Seen::Missing) };
    let (at, failed) = match job.progress(now) {
        JobProgress::Running => return Ok(Seen::Active { waiting: None }),
        JobProgress::Pending => {
            return Ok(Seen::Active { waiting: waiting(context, &name, age(job, now)).await? });
        }
        JobProgress::Succeeded { at } => (at, None),
        JobProgress::Failed { at, reason, message } => (at, Some(format!("{reason}: {message}"))),
    };
    let wanted = wasm_node.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Changing));
    let outcome = if wanted { outcome::of(&pods(context, &name).await?) } else { outcome::Outcome::default() };
    Ok(Seen::Ended { at, failed, outcome: Box::new(outcome) })
}

/// Why the pod of a Job does not run, if that is known.
async fn waiting(context: &Context, job: &str, age: SignedDuration) -> Result<Option<String>, Error> {
    if age < PATIENCE {
        return Ok(None);
    }
    let pods = pods(context, job).await?;
    if !pods.is_empty() || age < CREATION {
        return Ok(outcome::waiting(&pods));
    }
    let api = Api::<Event>::namespaced(context.client.clone(), &context.jobs.namespace);
    let of_job = format!("involvedObject.kind=Job,involvedObject.name={job},reason={}", outcome::FAILED_CREATE);
    let events = api.list(&ListParams::default().fields(&of_job)).await;
    let events = events.map_err(|source| Error::Events { job: job.to_owned(), source })?;
    Ok(outcome::not_created(&events.items, job))
}

fn age(job: &Job, now: &Time) -> SignedDuration {
    let created = job.metadata.creation_timestamp.as_ref();
    created.map(|created| now.0.duration_since(created.0)).unwrap_or_default()
}

async fn pods(context: &Context, job: &str) -> Result<Vec<Pod>, Error> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &context.jobs.namespace);
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let list = api.list(&params).await.map_err(|source| Error::Pods { job: job.to_owned(), source })?;
    Ok(list.items)
}
