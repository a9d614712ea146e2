//! What is true of each WasmRuntime, read from the nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kwasm_api::names::KWASM_NODE;
use kwasm_api::wasm_runtime::{NodeCounts, WasmRuntime, WasmRuntimeStatus};

use super::observe::{Fleet, Member, Policy, Progress};
use super::plan::Action;
use super::validate::Candidate;
use super::{rollout, runtime_class};
use crate::conditions::{Said, settle};
use crate::observed::Unreadable;

const READY: &str = "Ready";
const PROGRESSING: &str = "Progressing";
const DEGRADED: &str = "Degraded";

/// So many nodes are named in a message.
const NAMED: usize = 3;

/// The statuses that differ from what the objects say.
pub(crate) fn all(fleet: &Fleet<'_>, policy: &Policy, now: &Time) -> Vec<Action> {
    let whole = Time(Timestamp::from_second(now.0.as_second()).unwrap_or(now.0));
    let budgets = rollout::budgets(fleet, policy);
    let accepted = fleet.candidates.iter().map(|candidate| {
        let stopped = budgets.get(candidate.runtime.name.as_str()).is_some_and(|budget| budget.stopped);
        let tally = Tally::of(candidate, fleet);
        let mut said = vec![progressing(&tally, candidate, stopped), degraded(&tally)];
        said.splice(0..0, ready(&tally, candidate, fleet));
        (candidate.object, tally.counts(), said)
    });
    let refused = fleet.refused.iter().map(|refused| {
        let said = cannot(refused.reason, &refused.message);
        (refused.object, NodeCounts::default(), said)
    });
    let readable = accepted.chain(refused).filter_map(|(object, counts, said)| set(object, counts, said, &whole));
    readable.chain(fleet.unreadable.iter().filter_map(|unreadable| set_unreadable(unreadable, &whole))).collect()
}

/// What is said of a WasmRuntime that cannot be carried out.
fn cannot(reason: &str, message: &str) -> Vec<Said> {
    let said = |type_, status| Said::new(type_, status, reason, message);
    vec![said(READY, false), said(PROGRESSING, false), said(DEGRADED, true)]
}

fn set(object: &WasmRuntime, nodes: NodeCounts, said: Vec<Said>, now: &Time) -> Option<Action> {
    let before = object.status.clone().unwrap_or_default();
    let runtime = object.runtime();
    let generation = object.metadata.generation;
    let status = WasmRuntimeStatus {
        observed_generation: generation,
        revision: Some(runtime.revision),
        handler: Some(runtime.handler),
        nodes,
        conditions: settle(&before.conditions, said, generation, now),
    };
    write(&object.metadata, &before, status)
}

fn set_unreadable(unreadable: &Unreadable, now: &Time) -> Option<Action> {
    let Unreadable { metadata, status: before, error } = unreadable;
    let message = format!("this operator cannot read it, so nodes keep what they have of it: {error}");
    let said = cannot("Unreadable", &message);
    let status = WasmRuntimeStatus {
        observed_generation: metadata.generation,
        conditions: settle(&before.conditions, said, metadata.generation, now),
        ..WasmRuntimeStatus::default()
    };
    write(metadata, before, status)
}

fn write(object: &ObjectMeta, before: &WasmRuntimeStatus, status: WasmRuntimeStatus) -> Option<Action> {
    let (runtime, uid) = (object.name.clone().unwrap_or_default(), object.uid.clone().unwrap_or_default());
    (status != *before).then(|| Action::SetStatus { runtime, uid, status: Box::new(status) })
}

/// The nodes of one runtime, by how they are doing.
#[derive(Debug, Default)]
struct Tally<'f> {
    ready: Vec<&'f str>,
    changing: Vec<&'f str>,
    failed: Vec<&'f str>,
    /// Not started yet.
    waiting: Vec<&'f str>,
    /// Their kubelet does not answer.
    unreachable: Vec<&'f str>,
    /// They have it still and should not.
    leaving: Vec<&'f str>,
}

impl<'f> Tally<'f> {
    fn of(candidate: &Candidate<'_>, fleet: &'f Fleet<'_>) -> Self {
        let mut tally = Self::default();
        for member in &fleet.members {
            if let Some(list) = tally.list(member, candidate) {
                list.push(member.node.name());
            }
        }
        tally
    }

    fn list(&mut self, member: &Member<'_>, candidate: &Candidate<'_>) -> Option<&mut Vec<&'f str>> {
        let name = candidate.runtime.name.as_str();
        if !member.desired.contains_key(name) {
            return member.concerns().contains(name).then_some(&mut self.leaving);
        }
        Some(match member.progress {
            _ if member.serves(&candidate.runtime) && member.progress == Progress::Settled => &mut self.ready,
            Progress::Failed(_) | Progress::Retrying => &mut self.failed,
            Progress::Changing => &mut self.changing,
            Progress::Settled if !member.node.ready => &mut self.unreachable,
            Progress::Settled => &mut self.waiting,
        })
    }

    fn counts(&self) -> NodeCounts {
        let Self { ready, changing, failed, waiting, unreachable, leaving: _ } = self;
        let number = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        NodeCounts {
            desired: number(ready.len() + changing.len() + failed.len() + waiting.len() + unreachable.len()),
            ready: number(ready.len()),
            updating: number(changing.len()),
            failed: number(failed.len()),
        }
    }

    /// Every node that should have it has it.
    fn is_complete(&self) -> bool {
        let Self { ready: _, changing, failed, waiting, unreachable, leaving: _ } = self;
        [changing, failed, waiting, unreachable].into_iter().all(Vec::is_empty)
    }
}

/// Without a node to be ready on there is no such condition: `kubectl wait` waits for one, and helm, which takes a
/// false one for an installation that is not over, does not.
fn ready(tally: &Tally<'_>, candidate: &Candidate<'_>, fleet: &Fleet<'_>) -> Option<Said> {
    if candidate.deleting {
        let message = format!(
            "being removed from {}; to give up on a node that does not answer, delete its WasmNode",
            named(&tally.leaving)
        );
        return Some(Said::new(READY, false, "Removing", message));
    }
    if let Some(problem) = runtime_class::problem(candidate, fleet) {
        return Some(Said::new(READY, false, "RuntimeClassConflict", problem));
    }
    let (verified, desired) = (tally.ready.len(), tally.counts().desired);
    if desired == 0 {
        return None;
    }
    let message = format!("verified on {verified} of {desired} nodes");
    if !tally.is_complete() {
        return Some(Said::new(READY, false, "NotOnAllNodes", message));
    }
    if !runtime_class::is_published(candidate, fleet) {
        let message = format!("{message}, but RuntimeClass {} is not published", candidate.object.runtime_class_name());
        return Some(Said::new(READY, false, "RuntimeClassNotPublished", message));
    }
    Some(Said::new(READY, true, "Verified", message))
}

fn progressing(tally: &Tally<'_>, candidate: &Candidate<'_>, stopped: bool) -> Said {
    let Tally { ready: _, changing, failed, waiting, unreachable, leaving } = tally;
    if stopped {
        let message = format!(
            "stopped after {} nodes failed ({}): change the spec, mend them, or raise spec.rollout.maxFailures",
            failed.len(),
            named(failed)
        );
        return Said::new(PROGRESSING, false, "RolloutStopped", message);
    }
    if !changing.is_empty() {
        return Said::new(PROGRESSING, true, "RollingOut", format!("changing {}", named(changing)));
    }
    if candidate.paused && !(waiting.is_empty() && leaving.is_empty()) {
        return Said::new(PROGRESSING, false, "Paused", "spec.rollout.paused is true");
    }
    if !leaving.is_empty() {
        return Said::new(PROGRESSING, true, "RollingOut", format!("to be removed from {}", named(leaving)));
    }
    if !waiting.is_empty() {
        return Said::new(PROGRESSING, true, "RollingOut", format!("waiting: {}", named(waiting)));
    }
    if !failed.is_empty() {
        return Said::new(PROGRESSING, true, "Retrying", format!("failed and tried again: {}", named(failed)));
    }
    if !unreachable.is_empty() {
        return Said::new(PROGRESSING, false, "NodesNotReady", format!("not ready: {}", named(unreachable)));
    }
    if tally.ready.is_empty() {
        let message = match candidate.selector {
            Some(_) => "no node matches spec.nodeSelector".to_owned(),
            None => format!("no node opted in: kubectl annotate node NODE {KWASM_NODE}=true"),
        };
        return Said::new(PROGRESSING, false, "NoNodes", message);
    }
    Said::new(PROGRESSING, false, "Complete", "nothing to do")
}

fn degraded(tally: &Tally<'_>) -> Said {
    if tally.failed.is_empty() {
        return Said::new(DEGRADED, false, "AsExpected", "no node failed");
    }
    let first = tally.failed.first().copied().unwrap_or_default();
    let message = format!("failed on {}: kubectl describe wasmnode {first}", named(&tally.failed));
    Said::new(DEGRADED, true, "NodesFailed", message)
}

fn named(nodes: &[&str]) -> String {
    match nodes {
        [] => "no node".to_owned(),
        few if few.len() <= NAMED => few.join(", "),
        many => format!("{} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    }
}
