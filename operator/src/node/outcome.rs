//! What became of an installer's Job: the last words of its pod.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod};
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

/// The reason of a Job controller's Event about a pod that the API server refused.
pub(crate) const FAILED_CREATE: &str = "FailedCreate";

/// Why a Job has no pod, in the words of the newest of its [`FAILED_CREATE`] Events. The name of the pod that was
/// refused is another with each try; without its end the words stay the same.
pub(crate) fn not_created(events: &[Event], job: &str) -> Option<String> {
    let newest = events.iter().max_by_key(|event| event.last_timestamp.clone())?;
    let message = newest.message.as_deref().unwrap_or_default();
    let pod = format!("\"{job}-");
    let message = match message.split_once(&pod) {
        Some((before, after)) => {
            let rest = after.split_once('"').map_or("", |(_, rest)| rest);
            format!("{before}\"{job}-…\"{rest}")
        }
        None => message.to_owned(),
    };
    Some(format!("{FAILED_CREATE}: {message}"))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(pod: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "lastTimestamp": at,
            "message": format!("Error creating: pods \"{pod}\" is forbidden: exceeded quota: \"few\""),
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_that_the_api_server_refuses_again_and_again_is_told_of_in_the_same_words() {
        let tries = [refused("job-2lqxz", "2026-01-01T00:00:09Z"), refused("job-x7v4p", "2026-01-01T00:00:05Z")];
        let words = r#"FailedCreate: Error creating: pods "job-…" is forbidden: exceeded quota: "few""#;
        assert_eq!(not_created(&tries, "job").as_deref(), Some(words));
        assert_eq!(not_created(&tries[1..], "job").as_deref(), Some(words));
        assert_eq!(not_created(&[], "job"), None);
    }
}
