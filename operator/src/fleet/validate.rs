//! WasmRuntimes become candidates once; later stages never look at a raw spec again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Selector;
use kube::{Resource, ResourceExt};
use kwasm_api::Runtime;
use kwasm_api::wasm_runtime::WasmRuntime;

use crate::observed::Unreadable;

/// A WasmRuntime that can be carried out.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) object: &'a WasmRuntime,
    pub(crate) runtime: Runtime,
    /// Which nodes; `None`: those that opted in.
    pub(crate) selector: Option<Selector>,
    pub(crate) max_unavailable: MaxUnavailable,
    pub(crate) max_failures: usize,
    pub(crate) paused: bool,
    /// It is to go from all nodes.
    pub(crate) deleting: bool,
}

/// How many nodes may change at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxUnavailable {
    Nodes(usize),
    Percent(usize),
}

impl Default for MaxUnavailable {
    /// What a WasmRuntime has that says nothing.
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl MaxUnavailable {
    /// Of `nodes`, rounded up, at least 1: a rollout that can never start helps nobody.
    pub(crate) fn of(self, nodes: usize) -> usize {
        match self {
            Self::Nodes(number) => number,
            Self::Percent(percent) => nodes.saturating_mul(percent).div_ceil(100),
        }
        .max(1)
    }

    fn parse(value: &IntOrString) -> Option<Self> {
        match value {
            IntOrString::Int(number) => usize::try_from(*number).ok().map(Self::Nodes),
            IntOrString::String(text) => match text.strip_suffix('%') {
                Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent),
                None => text.parse().ok().map(Self::Nodes),
            },
        }
    }
}

/// A WasmRuntime that cannot be carried out. Nodes that have it keep it as it is.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) object: &'a WasmRuntime,
    /// One word in CamelCase.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Sorts WasmRuntimes into those that can be carried out and those that cannot. Where two want the same handler or
/// RuntimeClass, the older one has it.
pub(crate) fn validate<'a>(runtimes: &[&'a WasmRuntime]) -> (Vec<Candidate<'a>>, Vec<Refused<'a>>) {
    let mut by_age = runtimes.to_vec();
    by_age.sort_by_key(|object| (object.creation_timestamp(), object.name_any()));
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    let mut handlers = BTreeMap::new();
    let mut classes = BTreeMap::new();
    for object in by_age {
        let checked = candidate(object).and_then(|candidate| {
            let handler = candidate.runtime.handler.clone();
            claim(&mut handlers, "handler", &handler, &candidate)?;
            claim(&mut classes, "RuntimeClass", object.runtime_class_name(), &candidate)?;
            Ok(candidate)
        });
        match checked {
            Ok(candidate) => candidates.push(candidate),
            Err((reason, message)) => refused.push(Refused { object, reason, message }),
        }
    }
    candidates.sort_by(|a, b| a.runtime.name.cmp(&b.runtime.name));
    (candidates, refused)
}

type Refusal = (&'static str, String);

fn claim(
    taken: &mut BTreeMap<String, String>,
    what: &str,
    name: &str,
    candidate: &Candidate<'_>,
) -> Result<(), Refusal> {
    let own = &candidate.runtime.name;
    match taken.get(name) {
        Some(other) if other != own => {
            let message = format!("{what} {name} belongs to the older WasmRuntime {other}: name another in the spec");
            Err(("Conflict", message))
        }
        _ => {
            taken.insert(name.to_owned(), own.clone());
            Ok(())
        }
    }
}

fn candidate(object: &WasmRuntime) -> Result<Candidate<'_>, Refusal> {
    let rollout = &object.spec.rollout;
    let max_unavailable = MaxUnavailable::parse(&rollout.max_unavailable).ok_or_else(|| {
        let value = &rollout.max_unavailable;
        let message = format!("spec.rollout.maxUnavailable is {value:?}: give a number or a percentage up to 100%");
        ("InvalidSpec", message)
    })?;
    let selector = object.spec.node_selector.clone().map(Selector::try_from).transpose();
    let selector = selector.map_err(|error| ("InvalidSpec", format!("spec.nodeSelector: {error}")))?;
    Ok(Candidate {
        object,
        runtime: object.runtime(),
        selector,
        max_unavailable,
        max_failures: usize::try_from(rollout.max_failures).unwrap_or(0),
        paused: rollout.paused,
        deleting: object.meta().deletion_timestamp.is_some(),
    })
}

/// Names of runtimes that nodes keep as they have them, because what is wanted of them is not known.
pub(crate) fn held(refused: &[Refused<'_>], unreadable: &[&Unreadable]) -> BTreeSet<String> {
    let refused = refused.iter().map(|refused| refused.object.meta());
    let all = refused.chain(unreadable.iter().map(|unreadable| &unreadable.metadata));
    all.filter(|metadata| metadata.deletion_timestamp.is_none()).filter_map(|metadata| metadata.name.clone()).collect()
}
