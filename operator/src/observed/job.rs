//! An installer Job as the operator needs it.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kwasm_api::names::JOB_NODE;
use serde::Deserialize;

/// What decisions need of a Job.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(crate) struct Job {
    pub(crate) metadata: ObjectMeta,
    /// The node it changes.
    pub(crate) node: String,
    pub(crate) progress: JobProgress,
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

    /// Whether its pod may still change the node.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.progress, JobProgress::Pending | JobProgress::Running)
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
        Self {
            node: annotations.remove(JOB_NODE).unwrap_or_default(),
            progress: progress(status),
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

fn progress(WireStatus { ready, conditions }: WireStatus) -> JobProgress {
    for condition in conditions {
        if condition.status != "True" {
            continue;
        }
        let at = condition.last_transition_time;
        match condition.type_.as_str() {
            "Complete" => return JobProgress::Succeeded { at },
            "Failed" => {
                let reason = condition.reason.unwrap_or_default();
                return JobProgress::Failed { at, reason, message: condition.message.unwrap_or_default() };
            }
            _ => {}
        }
    }
    if ready > 0 { JobProgress::Running } else { JobProgress::Pending }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

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
        let job: Job = serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap();
        assert_eq!(job.progress, expected);
    }
}
