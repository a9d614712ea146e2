//! What a finished Job means for its node.

use kwasm_api::report::{Failure, NodeState, Report, RuntimeReport, RuntimeState};
use kwasm_api::wasm_node::{WasmNode, WasmNodeStatus};

use super::job;
use super::outcome::Outcome;
use super::plan::Observed;

/// What is true of a node whose Job is over.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It has what its spec says.
    Verified,
    /// The installer says so, the kubelet not yet: this handler is missing.
    Unverified(String),
    /// It was verified, and now the kubelet no longer serves this handler.
    Lost(String),
    /// An installer that cannot remove is all there is: whatever it brought stays, and nobody advertises it.
    LeftAlone,
    /// It has not what its spec says.
    Failed(Problem),
}

/// Why a node has not what its spec says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// One word in CamelCase.
    pub(crate) reason: String,
    /// What happened, where the node stands and what to do.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let Failure { step, reason, message, node_state, remedy } = failure;
        let stands = match node_state {
            NodeState::Unchanged => "The node is unchanged.",
            NodeState::RolledBack => "The node was rolled back to what it was.",
            NodeState::NeedsAttention => "The node needs attention.",
        };
        let message = format!("{step}: {}. {stands} {}", message.trim_end_matches('.'), sentence(remedy));
        Self { reason: reason.clone(), message: message.trim_end().to_owned() }
    }
}

/// A text with a capital letter at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Takes over what the Job's pod said into `status`, and judges it.
pub(crate) fn settle(
    seen: &Observed<'_>,
    status: &mut WasmNodeStatus,
    failed: Option<&str>,
    outcome: &Outcome,
) -> Verdict {
    let report = outcome.report.as_ref();
    if let Some(report) = report.filter(|report| is_for(report, seen.wasm_node)) {
        take_over(status, report);
    }
    if let Some(failure) = failure(seen.wasm_node, failed, outcome) {
        return Verdict::Failed(failure);
    }
    if report.is_none() {
        status.report = None;
        status.runtimes = claimed(seen.wasm_node);
        if seen.wasm_node.spec.runtimes.is_empty() {
            return Verdict::LeftAlone;
        }
    }
    verified(seen)
}

/// Whether every handler that should be there is served, as far as the kubelet tells.
pub(crate) fn verified(seen: &Observed<'_>) -> Verdict {
    match seen.wasm_node.spec.runtimes.iter().find(|runtime| seen.node.denies(&runtime.handler)) {
        Some(runtime) => Verdict::Unverified(runtime.handler.clone()),
        None => Verdict::Verified,
    }
}

/// Whether everything is to be removed from a node whose installer never reported: such an installer (KWasm's
/// contract) only knows how to install, and running it would install again.
pub(crate) fn leaves_the_host_alone(wasm_node: &WasmNode, before: &WasmNodeStatus) -> bool {
    wasm_node.spec.runtimes.is_empty() && before.report.is_none() && !before.runtimes.is_empty()
}

/// What is still known of a node when the Job for a new spec starts: that Job removes or replaces whatever the spec
/// lacks, and if the user wants it back meanwhile, only a new Report says that it is there.
pub(crate) fn doubted(mut runtimes: Vec<RuntimeReport>, wasm_node: &WasmNode) -> Vec<RuntimeReport> {
    let spec = &wasm_node.spec.runtimes;
    for found in &mut runtimes {
        if !spec.iter().any(|wanted| wanted.name == found.name && wanted.revision == found.revision) {
            found.state = RuntimeState::Failed;
        }
    }
    runtimes
}

fn is_for(report: &Report, wasm_node: &WasmNode) -> bool {
    report.order.is_empty() || report.order == job::order(wasm_node).digest()
}

fn take_over(status: &mut WasmNodeStatus, report: &Report) {
    status.distribution.clone_from(&report.distribution);
    status.containerd.clone_from(&report.containerd);
    status.runtimes = report.runtimes.iter().filter(|found| found.state != RuntimeState::Removed).cloned().collect();
    status.report = Some(report.clone());
}

/// What an installer without a Report is believed to have done.
fn claimed(wasm_node: &WasmNode) -> Vec<RuntimeReport> {
    wasm_node.spec.runtimes.iter().map(|runtime| RuntimeReport::of(runtime, RuntimeState::Ready)).collect()
}

fn failure(wasm_node: &WasmNode, failed: Option<&str>, outcome: &Outcome) -> Option<Problem> {
    match &outcome.report {
        Some(report) if !is_for(report, wasm_node) => {
            Some(Problem::new("ReportOfAnotherOrder", "the installer's Report speaks of another Order"))
        }
        Some(Report { failure: Some(failure), .. }) => Some(failure.into()),
        // A Report that shows everything is proof, however the pod ended: the container runtime's restart may have
        // ended it.
        Some(report) => missing(wasm_node, report),
        None => match failed {
            None if outcome.pod_found => None,
            None => Some(Problem::new("PodGone", "the Job succeeded, but its pod is gone and with it the Report")),
            Some(words) => Some(Problem::new("InstallerFailed", outcome.words.as_deref().unwrap_or(words))),
        },
    }
}

/// A Job that succeeded must have brought everything that was ordered.
fn missing(wasm_node: &WasmNode, report: &Report) -> Option<Problem> {
    let mut wanted = wasm_node.spec.runtimes.iter();
    let missing = wanted.find(|wanted| {
        !report.runtimes.iter().any(|found| {
            found.name == wanted.name && found.revision == wanted.revision && found.state == RuntimeState::Ready
        })
    })?;
    Some(Problem::new("RuntimeMissing", format!("the installer's Report does not show {} as ready", missing.name)))
}
