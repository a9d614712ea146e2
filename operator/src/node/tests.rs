//! One node's decisions.

mod jobs;
mod outcomes;

use k8s_openapi::api::core::v1::Pod;
use kwasm_api::Report;
use kwasm_api::wasm_node::WasmNode;
use serde_json::json;

use super::plan::{Action, Observed, Plan, Seen, plan};
use super::{job, outcome};
use crate::observed::{Job, Node};
use crate::testing::{at, node, told};

/// One node and its Jobs.
struct Case {
    wasm_node: WasmNode,
    node: Node,
    job: Seen,
    others: Vec<Job>,
    now: i64,
}

/// A node that exists, and no Job.
fn case(wasm_node: WasmNode) -> Case {
    let node = node(wasm_node.metadata.name.as_deref().unwrap());
    Case { wasm_node, node, job: Seen::Missing, others: Vec::new(), now: 100 }
}

impl Case {
    fn on(mut self, node: Node) -> Self {
        self.node = node;
        self
    }

    fn running(mut self) -> Self {
        self.job = Seen::Active { waiting: None };
        self
    }

    fn waiting(mut self, why: &str) -> Self {
        self.job = Seen::Active { waiting: Some(why.to_owned()) };
        self
    }

    /// The Job succeeded; its pod's last words are these.
    fn succeeded(self, words: &str) -> Self {
        let pods = [pod(0, words)];
        self.ended(None, &pods)
    }

    fn reported(self, report: &Report) -> Self {
        let failed = report.failure.is_some();
        let pods = [pod(i32::from(failed), &report.to_json())];
        self.ended(failed.then_some("BackoffLimitExceeded: Job has reached the specified backoff limit"), &pods)
    }

    fn failed(self, words: &str) -> Self {
        let pods = [pod(137, words)];
        self.ended(Some("BackoffLimitExceeded: Job has reached the specified backoff limit"), &pods)
    }

    fn ended(mut self, failed: Option<&str>, pods: &[Pod]) -> Self {
        let outcome = Box::new(outcome::of(pods));
        self.job = Seen::Ended { at: Some(at(90)), failed: failed.map(str::to_owned), outcome };
        self
    }

    fn beside(mut self, name: &str, status: serde_json::Value) -> Self {
        let metadata = json!({"name": name, "annotations": {"kwasm.sh/node": self.node.name()}});
        self.others.push(serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap());
        self
    }

    fn at(mut self, now: i64) -> Self {
        self.now = now;
        self
    }

    fn plan(&self) -> Plan {
        let Self { wasm_node, node, job, others, now } = self;
        let others = others.iter().collect();
        plan(&Observed { wasm_node, node, job: job.clone(), others }, &at(*now))
    }

    fn actions(&self) -> Vec<Action> {
        self.plan().actions
    }

    /// The plan as text.
    fn text(&self) -> String {
        let plan = self.plan();
        let actions: String = plan.actions.iter().map(|action| format!("{action:?}\n")).collect();
        let status = plan.status.as_ref().map_or_else(|| "as before".to_owned(), told);
        format!("{actions}status: {status}\nnote: {:?}\nagain: {:?}", plan.note, plan.again)
    }

    /// The case after the plan was carried out and the watch has shown it.
    fn written(mut self) -> Self {
        let plan = self.plan();
        for action in plan.actions {
            if let Action::Label(patch) = action {
                let labels = self.node.metadata.labels.get_or_insert_default();
                for (key, value) in patch {
                    match value {
                        Some(value) => labels.insert(key, value),
                        None => labels.remove(&key),
                    };
                }
            }
        }
        self.wasm_node.status = plan.status.or(self.wasm_node.status);
        self
    }

    fn labels(&self) -> Vec<&str> {
        self.node.labels().map(|(key, _)| key).collect()
    }
}

/// A pod of an installer's Job that ended with these last words.
fn pod(exit_code: i32, message: &str) -> Pod {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let terminated = json!({"exitCode": exit_code, "reason": reason, "message": message});
    let container = json!({
        "name": job::CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": terminated},
    });
    serde_json::from_value(json!({"metadata": {}, "status": {"containerStatuses": [container]}})).unwrap()
}
