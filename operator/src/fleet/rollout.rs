//! Which nodes may change now.
//!
//! The invariant: of the nodes that have or should have a runtime, never more than its `maxUnavailable` are changing,
//! for whatever reason they change.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kwasm_api::Runtime;
use kwasm_api::wasm_node::WasmNodeSpec;

use super::observe::{Fleet, Member, Policy, Progress};
use super::validate::{Candidate, MaxUnavailable};

/// What one runtime's rollout looks like before anything is granted.
#[derive(Debug)]
pub(crate) struct Budget {
    /// How many nodes may change.
    pub(crate) allowed: usize,
    /// How many do.
    pub(crate) changing: usize,
    /// So many nodes failed at what is wanted now that no further node is started.
    pub(crate) stopped: bool,
    paused: bool,
}

/// The specs to write now, by node, and when the next failed node may be tried.
pub(crate) fn grants<'f>(
    fleet: &'f Fleet<'_>,
    policy: &Policy,
    now: &Time,
) -> (Vec<(&'f Member<'f>, WasmNodeSpec)>, Option<Time>) {
    let mut budgets = budgets(fleet, policy);
    let (mut granted, mut retry_at): (Vec<_>, Option<Time>) = (Vec::new(), None);
    let mut waiting: Vec<(&Member<'_>, WasmNodeSpec)> = Vec::new();
    for member in &fleet.members {
        match next(member, fleet, &budgets, policy) {
            Next::Nothing => {}
            Next::Spec(spec) => waiting.push((member, spec)),
            Next::Retry(spec, at) if at <= *now => waiting.push((member, spec)),
            Next::Retry(_, at) => retry_at = Some(retry_at.map_or(at.clone(), |other| other.min(at))),
        }
    }
    // A node that is tried again must not keep the others waiting.
    waiting.sort_by_key(|(member, spec)| (spec.attempt > 1, member.node.name()));
    for (member, spec) in waiting {
        // A node that is changing already has its place.
        if member.progress.is_changing() || take(member, &mut budgets) {
            granted.push((member, spec));
        }
    }
    (granted, retry_at)
}

enum Next {
    Nothing,
    Spec(WasmNodeSpec),
    Retry(WasmNodeSpec, Time),
}

/// What a node would get if there were room.
fn next(member: &Member<'_>, fleet: &Fleet<'_>, budgets: &BTreeMap<&str, Budget>, policy: &Policy) -> Next {
    if fleet.put_off.contains(member.node.name()) {
        return Next::Nothing;
    }
    // No installer runs on a node whose kubelet does not answer; it would only use up the budget.
    if !member.node.ready && !member.progress.is_changing() {
        return Next::Nothing;
    }
    let runtimes = target(member, fleet, budgets);
    let is_frozen = |runtime: &Runtime| budgets.get(runtime.name.as_str()).is_none_or(Budget::frozen);
    let Some(wasm_node) = member.wasm_node else {
        return match runtimes.as_slice() {
            [] => Next::Nothing,
            _ => Next::Spec(spec(member, runtimes, policy.installer.clone(), 1)),
        };
    };
    let before = &wasm_node.spec;
    let same = runtimes == before.runtimes;
    // An installer that may be what is wrong is not kept for the sake of a rollout that stands still.
    let is_unfinished = member.progress != Progress::Settled;
    let new_installer = before.installer != policy.installer && (is_unfinished || !runtimes.iter().all(is_frozen));
    if !same || new_installer || is_another_host(member, before) && !runtimes.iter().all(is_frozen) {
        return Next::Spec(spec(member, runtimes, policy.installer.clone(), 1));
    }
    match &member.progress {
        Progress::Failed(at) => {
            let at = at.clone().unwrap_or(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
            let attempt = before.attempt.saturating_add(1);
            Next::Retry(spec(member, runtimes, policy.installer.clone(), attempt), at)
        }
        Progress::Settled | Progress::Changing | Progress::Retrying => Next::Nothing,
    }
}

fn spec(member: &Member<'_>, runtimes: Vec<Runtime>, installer: String, attempt: i32) -> WasmNodeSpec {
    let before = member.wasm_node.and_then(|wasm_node| wasm_node.spec.host.as_ref());
    let host = member.node.host.as_ref().or(before).cloned();
    WasmNodeSpec { node_uid: member.node.uid().to_owned(), runtimes, installer, host, attempt }
}

/// Whether the node was started again, installed anew, or has another container runtime since it got its spec: then
/// its runtimes may be gone, and not every kubelet tells.
fn is_another_host(member: &Member<'_>, before: &WasmNodeSpec) -> bool {
    member.progress == Progress::Settled
        && member.node.host.as_ref().is_some_and(|now| before.host.as_ref() != Some(now))
}

/// What a node should have after its next change: what is wanted, but what is frozen or held as it is. A rollout that
/// stopped by itself still lets go of nodes that should not have the runtime any more.
fn target(member: &Member<'_>, fleet: &Fleet<'_>, budgets: &BTreeMap<&str, Budget>) -> Vec<Runtime> {
    let keeps = |name: &str| {
        let budget = budgets.get(name);
        fleet.held.contains(name)
            || budget.is_some_and(|budget| budget.paused || budget.stopped && member.desired.contains_key(name))
    };
    let wanted = member.desired.values().filter(|runtime| !keeps(&runtime.name)).cloned();
    let kept = member.current.values().filter(|runtime| keeps(&runtime.name)).map(|runtime| (*runtime).clone());
    let mut runtimes: Vec<_> = wanted.chain(kept).collect();
    runtimes.sort_by(|a, b| a.name.cmp(&b.name));
    runtimes
}

/// Takes a place in the budget of every runtime that the node's change touches, or none.
fn take(member: &Member<'_>, budgets: &mut BTreeMap<&str, Budget>) -> bool {
    let names = member.concerns();
    if !names.iter().all(|name| budgets.get(name).is_some_and(Budget::has_room)) {
        return false;
    }
    for name in names {
        if let Some(budget) = budgets.get_mut(name) {
            budget.changing += 1;
        }
    }
    true
}

/// The budget of every runtime that can be carried out, and of every other that a node has.
pub(crate) fn budgets<'f>(fleet: &'f Fleet<'_>, policy: &Policy) -> BTreeMap<&'f str, Budget> {
    let mut usages: BTreeMap<&str, Usage> = BTreeMap::new();
    for member in &fleet.members {
        for name in member.concerns() {
            let usage = usages.entry(name).or_default();
            usage.population += 1;
            usage.changing += usize::from(member.progress.is_changing());
        }
    }
    let mut budgets: BTreeMap<_, _> = usages.iter().map(|(name, usage)| (*name, unknown(name, usage, fleet))).collect();
    for candidate in &fleet.candidates {
        let name = candidate.runtime.name.as_str();
        let usage = usages.get(name).copied().unwrap_or_default();
        budgets.insert(name, budget(candidate, usage, fleet, policy));
    }
    budgets
}

/// How many nodes a runtime concerns, and how many of them are changing.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    population: usize,
    changing: usize,
}

/// The budget of a runtime whose own is not known: its WasmRuntime is gone, or cannot be carried out.
fn unknown(name: &str, usage: &Usage, fleet: &Fleet<'_>) -> Budget {
    let allowed = MaxUnavailable::default().of(usage.population);
    Budget { allowed, changing: usage.changing, stopped: false, paused: fleet.held.contains(name) }
}

fn budget(candidate: &Candidate<'_>, usage: Usage, fleet: &Fleet<'_>, policy: &Policy) -> Budget {
    let wanted = fleet.members.iter().filter(|member| member.desired.contains_key(&candidate.runtime.name));
    let failed = wanted.filter(|member| member.progress.has_failed() && is_at_what_is_wanted(member, fleet, policy));
    Budget {
        allowed: candidate.max_unavailable.of(usage.population),
        changing: usage.changing,
        stopped: failed.count() > candidate.max_failures,
        paused: candidate.paused && !candidate.deleting,
    }
}

/// Whether the node's last attempt was at what is wanted of it now: then its failure says something about that. A
/// paused runtime is not what it is waiting for.
fn is_at_what_is_wanted(member: &Member<'_>, fleet: &Fleet<'_>, policy: &Policy) -> bool {
    let is_paused = |name: &str| fleet.candidates.iter().any(|other| other.paused && other.runtime.name == name);
    let has = |(name, runtime): (&String, &Runtime)| {
        is_paused(name) || member.current.get(name.as_str()).is_some_and(|current| *current == runtime)
    };
    member.wasm_node.is_some_and(|wasm_node| wasm_node.spec.installer == policy.installer)
        && member.desired.iter().all(has)
}

impl Budget {
    fn has_room(&self) -> bool {
        self.changing < self.allowed
    }

    /// No further node is started on its account.
    fn frozen(&self) -> bool {
        self.paused || self.stopped
    }
}
