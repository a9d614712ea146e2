//! Every choice of a run, without touching anything: from what was observed to what will be done.

mod base;
mod configure;
mod handlers;
mod in_use;
mod steps;

use std::collections::BTreeSet;
use std::path::PathBuf;

use kwasm_api::report::{RuntimeReport, RuntimeState};
use kwasm_api::runtime::Runtime;
use serde_json::Value as Json;

pub use base::{Base, base};
pub use in_use::asks_for_pods;

use crate::artifacts::Artifact;
use crate::config::Entry;
use crate::failure::{Reason, Stop};
use crate::ledger::{Ledger, State};
use crate::observe::{Effective, Loadable, Observed, Standing};
use crate::platform::{Form, Kind, TakeUp};
use crate::step::Step;
use crate::target::{Target, Wanted, WantedSource};
use crate::verify::{Dropped, Expected};

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Changes before the restart; undone if anything fails.
    pub change: Vec<Step>,
    /// How the daemon takes the change up, if it does not serve already what it should.
    pub take_up: Option<TakeUp>,
    /// Shims that must answer, where no CRI can be asked.
    pub named: Vec<PathBuf>,
    /// What is removed after the verification.
    pub cleanup: Vec<Step>,
    /// The new text of the file that is ours to write; `None`: no file.
    pub config: Option<String>,
    /// What the daemon would load then.
    pub candidate: Loadable,
    /// What CRI should serve afterwards.
    pub expected: Expected,
    /// What the ledger will say.
    pub state: State,
    /// What the Report will say.
    pub runtimes: Vec<RuntimeReport>,
}

impl Plan {
    /// Whether the node is as it should be already.
    #[must_use]
    pub fn is_empty(&self, observed: &Observed) -> bool {
        let recorded = match &observed.ledger {
            Some(ledger) => ledger.pending.is_none() && ledger.current == self.state && !self.leaves_nothing(),
            None => self.leaves_nothing() && !observed.bare_ledger_folder,
        };
        self.change.is_empty() && self.take_up.is_none() && self.cleanup.is_empty() && recorded
    }

    /// Whether nothing of ours stays on the node.
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        self.state.is_empty() && self.state.created_dirs.is_empty()
    }
}

/// Decides everything else.
///
/// # Errors
/// If the target cannot be reached from here.
pub fn plan(observed: &Observed, target: &Target, base: &Base, effective: &Effective) -> Result<Plan, Stop> {
    check_binaries(observed)?;
    in_use::refuse(observed, target, effective)?;
    let by_name = observed.platform.layout.form == Form::ByName;
    let wanted = if by_name { handlers::by_name(observed, target)? } else { handlers::entries(observed, target)? };
    let ours = handlers::sort_out(&wanted, observed, effective)?;
    let configured = configure::configure(observed, base, effective, &ours)?;
    let expected = expect(observed, &wanted, effective);
    let mut state = State {
        install_dir: Some(observed.install_dir.clone()),
        runtimes: target.runtimes.iter().map(|wanted| wanted.runtime.clone()).collect(),
        artifacts: observed.artifacts.values().map(Artifact::remembered).collect(),
        config: configured.record,
        named: observed.own_names().into_iter().map(|(link, _)| link).collect(),
        created_dirs: Vec::new(),
    };
    let cleanup = steps::cleanup(observed, target);
    state.created_dirs = steps::created_dirs(observed, &state, &cleanup);
    if state.is_empty() && state.created_dirs.is_empty() {
        state.install_dir = None;
    }
    let change = steps::changes(observed, configured.text.as_ref(), &state);
    let reconfigured = change.iter().any(|step| matches!(step, Step::Configure { .. }));
    let unsure = (reconfigured || observed.interrupted()) && known_by_name_alone(observed, &expected, effective);
    let served = by_name || effective.cri.ready && expected.ours_served(&effective.cri) && !unsure;
    let is_new = |step: &Step| matches!(step, Step::Link { .. } | Step::Install { .. } | Step::Repair { .. });
    let changed = change.iter().any(is_new);
    Ok(Plan {
        take_up: (!served).then(|| observed.platform.take_up.clone()),
        named: if by_name && changed { state.named.clone() } else { Vec::new() },
        change,
        cleanup,
        runtimes: reports(observed, target),
        config: configured.text,
        candidate: configured.candidate,
        expected,
        state,
    })
}

fn binary(wanted: &Wanted, observed: &Observed) -> Option<PathBuf> {
    match (&wanted.source, wanted.artifact()) {
        (WantedSource::Host(path), _) => Some(path.clone()),
        (_, Some(name)) => Some(observed.artifacts.get(name)?.link(&observed.install_dir)),
        (_, None) => None,
    }
}

fn check_binaries(observed: &Observed) -> Result<(), Stop> {
    let step = "look for the runtimes' binaries";
    if let Some(path) = observed.missing_binaries.first() {
        let words = format!("there is no file {} on the node", path.display());
        return Err(Stop::unchanged(step, Reason::BinaryMissing, words));
    }
    if let Some(words) = observed.refused_binaries.first() {
        return Err(Stop::unchanged(step, Reason::ArtifactRefused, words)
            .with_remedy("put a program that this node can run there, or correct the path"));
    }
    let mut links: BTreeSet<PathBuf> = BTreeSet::new();
    for artifact in observed.artifacts.values() {
        if !links.insert(artifact.link(&observed.install_dir)) {
            let words = format!("two artifacts of this Order have the file {}", artifact.shim);
            return Err(Stop::unchanged(step, Reason::InvalidOrder, words));
        }
    }
    Ok(())
}

fn expect(observed: &Observed, wanted: &[(&Wanted, Option<Entry>)], effective: &Effective) -> Expected {
    let entries: Vec<Entry> = wanted.iter().filter_map(|(_, entry)| entry.clone()).collect();
    let there = effective.dump.handlers();
    // CRI-O passes over a handler whose binary is not there, its built-in one as well.
    let passed_over =
        |name: &String| observed.platform.kind == Kind::Crio && !effective.cri.handlers.contains_key(name);
    let ours = |name: &String| entries.iter().any(|entry| entry.handler == *name);
    let others: Vec<String> = there.keys().filter(|name| !ours(name) && !passed_over(name)).cloned().collect();
    let mut gone: Vec<String> =
        observed.handlers_before().into_iter().filter(|name| !there.contains_key(name) && !ours(name)).collect();
    gone.sort();
    gone.dedup();
    let dropped = wanted.iter().filter_map(|(wanted, entry)| Some(dropped(observed, wanted, entry.as_ref()?)));
    let dropped = dropped.flatten().collect();
    Expected { entries, others, gone, dropped, network: effective.cri.network_ready }
}

/// What a runtime had when it was installed, or was going to be, and has no more.
fn dropped(observed: &Observed, wanted: &Wanted, entry: &Entry) -> Vec<Dropped> {
    let now = &wanted.runtime;
    let has = |name: &String| entry.table.get("options").is_some_and(|options| options.get(name).is_some());
    let states = observed.ledger.iter().flat_map(Ledger::states);
    let old = states.flat_map(|state| &state.runtimes).filter(|old| old.handler == now.handler);
    let dropped = old.map(|old| Dropped {
        handler: now.handler.clone(),
        options: old.options.keys().filter(|name| !has(name)).cloned().collect(),
        pod_annotations: now.pod_annotations.is_empty() && !old.pod_annotations.is_empty(),
    });
    dropped.filter(|dropped| !dropped.options.is_empty() || dropped.pod_annotations).collect()
}

/// Whether CRI tells of a handler that was verified before only its name, so that it may have the old configuration.
fn known_by_name_alone(observed: &Observed, expected: &Expected, effective: &Effective) -> bool {
    let verified = observed.handlers_verified();
    let told = |handler: &String| effective.cri.handlers.get(handler).is_some_and(Json::is_null);
    expected.entries.iter().any(|entry| verified.contains(&entry.handler) && told(&entry.handler))
}

fn reports(observed: &Observed, target: &Target) -> Vec<RuntimeReport> {
    let ready = target.runtimes.iter().map(|wanted| {
        let artifact = wanted.artifact().and_then(|name| observed.artifacts.get(name));
        RuntimeReport {
            sha256: artifact.map(|artifact| artifact.sha256.clone()).filter(|sha256| !sha256.is_empty()),
            path: binary(wanted, observed).map(|path| path.display().to_string()),
            ..RuntimeReport::of(&wanted.runtime, RuntimeState::Ready)
        }
    });
    let removed = observed
        .runtimes_before()
        .into_iter()
        .filter(|old| !target.runtimes.iter().any(|wanted| wanted.runtime.name == old.name));
    ready.chain(removed.map(|runtime| RuntimeReport::of(&runtime, RuntimeState::Removed))).collect()
}

impl Observed {
    /// The links by which shims are found, without those whose place somebody else's file has.
    #[must_use]
    pub fn own_names(&self) -> Vec<(PathBuf, PathBuf)> {
        let free = |link: &PathBuf, to: &PathBuf| match self.links.get(link) {
            None | Some(Standing::Nothing) => true,
            Some(Standing::Link(there)) => there == to || self.state.named.contains(link),
            Some(Standing::File) => false,
        };
        self.named.iter().filter(|(link, to)| free(link, to)).map(|(link, to)| (link.clone(), to.clone())).collect()
    }

    /// Every handler that the ledger knows, the ones of an unfinished transaction among them.
    #[must_use]
    pub fn handlers_before(&self) -> Vec<String> {
        let records = self.ledger.iter().flat_map(Ledger::states).filter_map(|state| state.config.as_ref());
        records.flat_map(|record| record.handlers.iter().cloned()).collect()
    }

    /// The handlers that an earlier run verified.
    fn handlers_verified(&self) -> &[String] {
        let current = self.ledger.as_ref().and_then(|ledger| ledger.current.config.as_ref());
        current.map(|record| record.handlers.as_slice()).unwrap_or_default()
    }

    /// The handlers that only runs know which did not end.
    #[must_use]
    pub fn handlers_unverified(&self) -> Vec<String> {
        let verified = self.handlers_verified();
        self.handlers_before().into_iter().filter(|handler| !verified.contains(handler)).collect()
    }

    /// The names of all artifacts that the ledger knows, the ones of an unfinished transaction among them.
    fn artifacts_before(&self) -> BTreeSet<String> {
        let states = self.ledger.iter().flat_map(Ledger::states);
        states.flat_map(|state| state.artifacts.iter().map(|artifact| artifact.name.clone())).collect()
    }

    /// Every runtime that the ledger knows, the ones of an unfinished transaction among them.
    #[must_use]
    pub fn runtimes_before(&self) -> Vec<Runtime> {
        let mut all: Vec<Runtime> = Vec::new();
        for runtime in self.ledger.iter().flat_map(Ledger::states).flat_map(|state| &state.runtimes) {
            if !all.iter().any(|known| known.name == runtime.name) {
                all.push(runtime.clone());
            }
        }
        all
    }
}
