//! What became of an installer's Job: the last words of its pod.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kwasm_api::Report;

use super::job::CONTAINER;

/// What a finished Job left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// What our installer says; other installers say nothing.
    pub(crate) report: Option<Report>,
    /// Where there is no Report: how the container ended, in words.
    pub(crate) words: Option<String>,
    /// Whether a pod was still there to ask.
    pub(crate) pod_found: bool,
}

/// Reads the outcome from the newest pod of a Job.
pub(crate) fn of(pods: &[Pod]) -> Outcome {
    let newest = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(terminated) = newest.and_then(terminated) else {
        return Outcome { pod_found: newest.is_some(), ..Outcome::default() };
    };
    let message = terminated.message.as_deref().unwrap_or_default().trim();
    let report = Report::from_json(message).ok();
    Outcome { words: report.is_none().then(|| words(terminated, message)), report, pod_found: true }
}

/// Why the newest pod of a Job does not run yet, such as `ImagePullBackOff: …`.
pub(crate) fn waiting(pods: &[Pod]) -> Option<String> {
    let newest = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone())?;
    let statuses = newest.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref().unwrap_or("Waiting");
    Some(match waiting.message.as_deref() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()
}

fn words(terminated: &ContainerStateTerminated, message: &str) -> String {
    let reason = terminated.reason.as_deref().unwrap_or("Ended");
    let code = terminated.exit_code;
    if message.is_empty() {
        format!("{reason}, exit code {code}")
    } else {
        format!("{reason}, exit code {code}: {message}")
    }
}
