//! The words for a node's state: phase, condition and the time of the next attempt belong together.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};
use kwasm_api::report::RUNTIME_IN_USE;
use kwasm_api::wasm_node::{Phase, WasmNode, WasmNodeStatus};

use super::backoff;
use super::plan::{Observed, later};
use super::settle::Problem;
use crate::conditions::{Said, settle};

/// What to tell in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// One word in CamelCase.
    pub(crate) reason: String,
    /// Without times, so that repeated Events are counted and not listed.
    pub(crate) text: String,
    /// Something failed.
    pub(crate) warning: bool,
    /// Something came to an end: told of the Node too.
    pub(crate) end: bool,
}

/// Type of a `WasmNode`'s only condition.
pub(crate) const READY: &str = "Ready";

pub(crate) fn changing(status: &mut WasmNodeStatus, wasm_node: &WasmNode, waiting: Option<&str>, now: &Time) -> Note {
    let job = status.job.as_deref().unwrap_or_default();
    let (reason, what) = match wasm_node.spec.runtimes.as_slice() {
        [] => ("Removing", "removes all runtimes".to_owned()),
        _ => ("Installing", format!("brings {}", names(wasm_node))),
    };
    let message = match waiting {
        Some(waiting) => format!("Job {job} {what}; its pod waits: {waiting}"),
        None => format!("Job {job} {what}"),
    };
    status.phase = Some(Phase::Changing);
    say(status, wasm_node, Said::new(READY, false, reason, message.clone()), now);
    Note { reason: reason.to_owned(), text: message, warning: waiting.is_some(), end: false }
}

pub(crate) fn verifying(status: &mut WasmNodeStatus, wasm_node: &WasmNode, handler: &str, now: &Time) {
    let message = format!("Installed; waiting for the kubelet to report the handler {handler}");
    status.phase = Some(Phase::Verifying);
    say(status, wasm_node, Said::new(READY, false, "WaitingForKubelet", message), now);
}

pub(crate) fn ready(status: &mut WasmNodeStatus, seen: &Observed<'_>, now: &Time) -> Note {
    let wasm_node = seen.wasm_node;
    let names = names(wasm_node);
    let said = if wasm_node.spec.runtimes.is_empty() {
        Said::new(READY, true, "Removed", "All runtimes are removed")
    } else if status.report.is_some() {
        Said::new(READY, true, "Verified", format!("{names}: installed and verified"))
    } else if seen.node.handlers.is_some() {
        Said::new(READY, true, "Verified", format!("{names}: installed by a custom image, verified by the kubelet"))
    } else {
        let why = "installed by a custom image that wrote no Report, and this node's kubelet reports no handlers: \
                   nobody verified it";
        Said::new(READY, true, "Unverified", format!("{names}: {why}"))
    };
    status.phase = Some(Phase::Ready);
    status.retry_after = None;
    status.host.clone_from(&wasm_node.spec.host);
    say(status, wasm_node, said.clone(), now);
    Note { reason: said.reason, text: said.message, warning: false, end: true }
}

pub(crate) fn left_alone(status: &mut WasmNodeStatus, wasm_node: &WasmNode, now: &Time) -> Note {
    let message = "Nothing is advertised. The custom installer image cannot remove what it installs: whatever it \
                   installed is still on the host";
    status.phase = Some(Phase::Ready);
    status.retry_after = None;
    status.runtimes.clear();
    say(status, wasm_node, Said::new(READY, true, "LeftAlone", message), now);
    Note { reason: "LeftAlone".to_owned(), text: message.to_owned(), warning: false, end: true }
}

pub(crate) fn failed(status: &mut WasmNodeStatus, wasm_node: &WasmNode, problem: &Problem, now: &Time) -> Note {
    let attempt = wasm_node.spec.attempt;
    let before = status.conditions.first().filter(|before| before.status == "True");
    let lasted = before.map(|before| now.0.duration_since(before.last_transition_time.0));
    let lasted = lasted.and_then(|lasted| Duration::try_from(lasted).ok()).unwrap_or_default();
    let wait = match problem.reason.as_str() {
        RUNTIME_IN_USE => backoff::after_refusal(attempt),
        _ => backoff::after_loss(attempt, lasted),
    };
    let next = later(now, wait);
    // The API keeps whole seconds.
    let next = Time(next.0.round(Unit::Second).unwrap_or(next.0));
    let message = format!("{} Attempt {attempt}; the next may start at {}.", ended(&problem.message), next.0);
    status.phase = Some(Phase::Failed);
    status.retry_after = Some(next);
    say(status, wasm_node, Said::new(READY, false, &problem.reason, message), now);
    Note { reason: problem.reason.clone(), text: problem.message.clone(), warning: true, end: true }
}

pub(crate) fn not_reported(seen: &Observed<'_>, handler: &str) -> Problem {
    let node = seen.node.name();
    Problem::new(
        "HandlerNotReported",
        format!("the installer verified {handler}, but the kubelet of {node} does not report it: look at its journal"),
    )
}

pub(crate) fn lost(seen: &Observed<'_>, handler: &str) -> Problem {
    let node = seen.node.name();
    Problem::new(
        "HandlerLost",
        format!("the kubelet of {node} no longer reports the handler {handler}: somebody changed its configuration"),
    )
}

fn say(status: &mut WasmNodeStatus, wasm_node: &WasmNode, said: Said, now: &Time) {
    status.observed_generation = wasm_node.metadata.generation;
    let whole = Time(Timestamp::from_second(now.0.as_second()).unwrap_or(now.0));
    status.conditions = settle(&status.conditions, vec![said], wasm_node.metadata.generation, &whole);
}

fn names(wasm_node: &WasmNode) -> String {
    wasm_node.spec.runtimes.iter().map(|runtime| runtime.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn ended(sentence: &str) -> String {
    format!("{}.", sentence.trim_end_matches('.'))
}
