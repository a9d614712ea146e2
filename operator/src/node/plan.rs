//! What to do next for one node: decided from what is known, without a client and without a clock.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kwasm_api::wasm_node::{Phase, WasmNode, WasmNodeStatus};

use super::labels::{self, LabelPatch};
use super::outcome::Outcome;
use super::say::Note;
use super::settle::{self, Verdict};
use super::{job, say};
use crate::observed::{Job, JobProgress, Node};

/// How often a pod that does not end is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// A Job that ended well is kept this long, so that its log can be read.
const KEEP_JOB: Duration = Duration::from_secs(600);

/// How long the kubelet may take to report a new handler: it asks every 5 s and tells within 10 s.
const VERIFY_WITHIN: Duration = Duration::from_secs(120);

/// What is known of one node.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) wasm_node: &'a WasmNode,
    pub(crate) node: &'a Node,
    /// The Job for the `WasmNode` as it is now.
    pub(crate) job: Seen,
    /// Jobs for what the `WasmNode` was before.
    pub(crate) others: Vec<&'a Job>,
}

/// What is known of the Job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// There is none.
    Missing,
    /// It is not over.
    Active {
        /// Why its pod does not run, in the kubelet's words.
        waiting: Option<String>,
    },
    /// It is over.
    Ended {
        /// When.
        at: Option<Time>,
        /// In the Job controller's words, if it failed.
        failed: Option<String>,
        /// In the pod's words.
        outcome: Box<Outcome>,
    },
}

/// What to do, in this order: the actions, the status, the Event.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// The whole new status, if it differs.
    pub(crate) status: Option<WasmNodeStatus>,
    /// What to tell in an Event: something came to an end or began.
    pub(crate) note: Option<Note>,
    /// When to look again, if nothing happens.
    pub(crate) again: Option<Duration>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Change the node's labels.
    Label(LabelPatch),
    /// Start the Job for the `WasmNode` as it is now.
    CreateJob,
    /// Delete a Job and its pod.
    DeleteJob(String),
}

/// Decides.
pub(crate) fn plan(seen: &Observed<'_>, now: &Time) -> Plan {
    let before = seen.wasm_node.status.clone().unwrap_or_default();
    let mut plan = match before.phase {
        Some(phase) if before.observed_generation == seen.wasm_node.metadata.generation => match phase {
            Phase::Changing => changing(seen, before.clone(), now),
            Phase::Verifying => verdict(seen, before.clone(), settle::verified(seen), now),
            Phase::Ready => ready(seen, before.clone(), now),
            Phase::Failed => labelled(seen, before.clone()),
        },
        _ => begin(seen, before.clone(), now),
    };
    plan.status = plan.status.filter(|status| *status != before);
    plan
}

/// A new spec, or a new attempt at it: labels that will not be true go before the host is touched.
fn begin(seen: &Observed<'_>, before: WasmNodeStatus, now: &Time) -> Plan {
    if settle::leaves_the_host_alone(seen.wasm_node, &before) {
        return verdict(seen, before, Verdict::LeftAlone, now);
    }
    let mut status = WasmNodeStatus {
        observed_generation: seen.wasm_node.metadata.generation,
        phase: Some(Phase::Changing),
        retry_after: None,
        job: Some(job::name(seen.wasm_node)),
        order: Some(job::order(seen.wasm_node).digest()),
        runtimes: settle::doubted(before.runtimes, seen.wasm_node),
        ..before
    };
    let mut actions = label(labels::withdrawn(seen.wasm_node, &status, seen.node));
    if let Some(other) = seen.others.iter().find(|job| job.is_active(now)) {
        // Two installers on one node would only wait for each other. One that never started (a wrong image) is not
        // worth waiting for.
        if other.progress(now) == JobProgress::Pending && other.metadata.deletion_timestamp.is_none() {
            actions.push(Action::DeleteJob(other.name().to_owned()));
        }
        return Plan { actions, again: Some(LOOK_AGAIN), ..Plan::default() };
    }
    actions.push(Action::CreateJob);
    let note = Some(say::changing(&mut status, seen.wasm_node, None, now));
    Plan { actions, status: Some(status), note, again: Some(LOOK_AGAIN) }
}

fn changing(seen: &Observed<'_>, mut status: WasmNodeStatus, now: &Time) -> Plan {
    match &seen.job {
        Seen::Missing => {
            let actions = vec![Action::CreateJob];
            Plan { actions, status: Some(status), again: Some(LOOK_AGAIN), ..Plan::default() }
        }
        Seen::Active { waiting } => {
            let words = waiting.as_deref();
            let note = words.map(|words| say::changing(&mut status, seen.wasm_node, Some(words), now));
            // A pod that waits for another reason is told anew, one that waits on is not.
            let note = note.filter(|_| seen.wasm_node.status.as_ref() != Some(&status));
            Plan { status: Some(status), note, again: Some(LOOK_AGAIN), ..Plan::default() }
        }
        Seen::Ended { failed, outcome, .. } => {
            let decided = settle::settle(seen, &mut status, failed.as_deref(), outcome);
            let mut plan = verdict(seen, status, decided, now);
            plan.actions.extend(seen.others.iter().map(|job| Action::DeleteJob(job.name().to_owned())));
            plan
        }
    }
}

fn ready(seen: &Observed<'_>, before: WasmNodeStatus, now: &Time) -> Plan {
    if let Verdict::Unverified(handler) = settle::verified(seen) {
        return verdict(seen, before, Verdict::Lost(handler), now);
    }
    let mut plan = labelled(seen, before);
    if let Seen::Ended { at: Some(at), .. } = &seen.job {
        let age = Duration::try_from(now.0.duration_since(at.0)).unwrap_or_default();
        if age >= KEEP_JOB {
            plan.actions.push(Action::DeleteJob(job::name(seen.wasm_node)));
        } else {
            plan.again = Some(KEEP_JOB - age);
        }
    }
    plan
}

/// Turns a verdict into status and labels.
fn verdict(seen: &Observed<'_>, mut status: WasmNodeStatus, verdict: Verdict, now: &Time) -> Plan {
    let (note, again) = match verdict {
        Verdict::Unverified(handler) => {
            let deadline = status.retry_after.get_or_insert_with(|| later(now, VERIFY_WITHIN)).clone();
            if deadline <= *now {
                (Some(say::failed(&mut status, seen.wasm_node, &say::not_reported(seen, &handler), now)), None)
            } else {
                say::verifying(&mut status, seen.wasm_node, &handler, now);
                let rest = Duration::try_from(deadline.0.duration_since(now.0)).unwrap_or(LOOK_AGAIN);
                (None, Some(rest))
            }
        }
        Verdict::Verified => (Some(say::ready(&mut status, seen, now)), Some(KEEP_JOB)),
        Verdict::LeftAlone => (Some(say::left_alone(&mut status, seen.wasm_node, now)), None),
        Verdict::Lost(handler) => {
            (Some(say::failed(&mut status, seen.wasm_node, &say::lost(seen, &handler), now)), None)
        }
        Verdict::Failed(problem) => (Some(say::failed(&mut status, seen.wasm_node, &problem, now)), None),
    };
    Plan { note, again, ..labelled(seen, status) }
}

/// The labels that a status allows.
fn labelled(seen: &Observed<'_>, status: WasmNodeStatus) -> Plan {
    let actions = label(labels::patch(seen.wasm_node, &status, seen.node));
    Plan { actions, status: Some(status), ..Plan::default() }
}

fn label(patch: LabelPatch) -> Vec<Action> {
    if patch.is_empty() { Vec::new() } else { vec![Action::Label(patch)] }
}

/// A moment later than `now`.
pub(crate) fn later(now: &Time, wait: Duration) -> Time {
    Time(now.0.checked_add(wait).unwrap_or(now.0))
}
