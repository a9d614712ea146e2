//! An installer Job as the operator needs it.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::SignedDuration;
use kube::Resource;
use kwasm_api::names::JOB_NODE;
use serde::Deserialize;

/// How long a pod may take to end and its kubelet to say so: twice Kubernetes' default grace period.
const TERMINATION: SignedDuration = SignedDuration::from_secs(60);

/// What decisions need of a Job.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(crate) struct Job {
    pub(crate) metadata: ObjectMeta,
    /// The node it changes.
    pub(crate) node: String,
    progress: JobProgress,
    /// It failed, but its pod may run still; the kubelet of a dead node never says that it ended.
    is_ending: bool,
}

/// How far a Job has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JobProgress {
    /// Its pod does not run yet, or not any more.
    Pending,
    /// Its pod runs.
    Running,
    /// It ended well.
    Succeeded {
        /// When.
        at: Option<Time>,
    },
    /// It ended badly.
    Failed {
        /// When.
        at: Option<Time>,
        /// In the Job controller's words, such as `DeadlineExceeded`.
        reason: String,
        /// Likewise.
        message: String,
    },
}

impl Job {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// How far it has come: a pod that should have ended [`TERMINATION`] ago is not waited for.
    pub(crate) fn progress(&self, now: &Time) -> JobProgress {
        match &self.progress {
            JobProgress::Failed { at: Some(at), .. } if self.is_ending && now.0.duration_since(at.0) < TERMINATION => {
                JobProgress::Running
            }
            other => other.clone(),
        }
    }

    /// Whether its pod may still change the node.
    pub(crate) fn is_active(&self, now: &Time) -> bool {
        matches!(self.progress(now), JobProgress::Pending | JobProgress::Running)
    }
}

impl Resource for Job {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        batch::Job::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        batch::Job::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        batch::Job::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        batch::Job::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Deserialize)]
struct Wire {
    metadata: WireMeta,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct WireStatus {
    #[serde(default)]
    ready: i32,
    #[serde(default)]
    conditions: Vec<batch::JobCondition>,
}

impl From<Wire> for Job {
    fn from(Wire { metadata, status }: Wire) -> Self {
        let WireMeta {
            name,
            namespace,
            uid,
            resource_version,
            creation_timestamp,
            deletion_timestamp,
            mut annotations,
        } = metadata;
        let (progress, is_ending) = progress(status);
        Self {
            node: annotations.remove(JOB_NODE).unwrap_or_default(),
            progress,
            is_ending,
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                creation_timestamp,
                deletion_timestamp,
                ..ObjectMeta::default()
            },
        }
    }
}

/// How far a Job has come, and whether its pod may run still although it failed.
fn progress(WireStatus { ready, conditions }: WireStatus) -> (JobProgress, bool) {
    let mut ending = None;
    for condition in conditions.into_iter().filter(|condition| condition.status == "True") {
        let at = condition.last_transition_time;
        let reason = condition.reason.unwrap_or_default();
        let message = condition.message.unwrap_or_default();
        match condition.type_.as_str() {
            "Complete" => return (JobProgress::Succeeded { at }, false),
            "Failed" => return (JobProgress::Failed { at, reason, message }, false),
            "FailureTarget" => ending = Some(JobProgress::Failed { at, reason, message }),
            _ => {}
        }
    }
    let running = if ready > 0 { JobProgress::Running } else { JobProgress::Pending };
    ending.map_or((running, false), |failed| (failed, true))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::at;

    #[rstest]
    #[case::nothing_said(json!({}), JobProgress::Pending)]
    #[case::a_pod_that_waits(json!({"active": 1, "ready": 0}), JobProgress::Pending)]
    #[case::a_pod_that_runs(json!({"active": 1, "ready": 1}), JobProgress::Running)]
    #[case::an_end_to_come(
        json!({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}),
        JobProgress::Pending
    )]
    #[case::an_end(json!({"conditions": [{"type": "Complete", "status": "True"}]}), JobProgress::Succeeded { at: None })]
    fn progress_is_read_from_the_status(#[case] status: Value, #[case] expected: JobProgress) {
        assert_eq!(job(status).progress, expected);
    }

    #[rstest]
    #[case::its_pod_may_be_ending(160, true)]
    #[case::its_node_is_dead(161, false)]
    fn a_job_whose_pod_never_ends_is_over_a_minute_later(#[case] now: i64, #[case] active: bool) {
        let failing = json!({"active": 1, "ready": 1, "conditions": [{
            "type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded",
            "lastTransitionTime": "1970-01-01T00:01:41Z",
        }]});
        assert_eq!(job(failing).is_active(&at(now)), active);
    }

    #[test]
    fn a_job_that_has_failed_is_over_at_once() {
        let failed = json!({"conditions": [
            {"type": "FailureTarget", "status": "True", "lastTransitionTime": "1970-01-01T00:01:41Z"},
            {"type": "Failed", "status": "True", "lastTransitionTime": "1970-01-01T00:01:41Z"},
        ]});
        assert!(!job(failed).is_active(&at(101)));
    }

    fn job(status: Value) -> Job {
        serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
    }
}
