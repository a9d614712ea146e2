//! One run from its target to its Report.

use std::cell::Cell;
use std::path::Path;

use kwasm_api::Report;
use kwasm_api::report::{Containerd, NodeState, RuntimeReport, RuntimeState};

use crate::apply::{Progress, Transaction, check_candidate};
use crate::artifacts::{Place, fetch};
use crate::failure::{Reason, Stop};
use crate::observe::{Effective, Host, Observed, Settings, effective, observe, pods};
use crate::plan::{self, Plan};
use crate::step::Step;
use crate::target::Target;

/// A run that is ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// What was seen.
    pub observed: Observed,
    /// What the daemon makes of it.
    pub effective: Effective,
    /// What is to be done.
    pub plan: Plan,
}

/// Observes, plans, and has containerd load the new configuration. Changes nothing.
///
/// # Errors
/// If the target cannot be reached, with what was seen until then.
pub fn prepare(host: &Host, settings: &Settings, target: &Target) -> Result<Prepared, (Stop, Option<Box<Observed>>)> {
    let observed = observe(host, settings, target).map_err(|stop| (stop, None))?;
    let decided = (|| {
        let base = plan::base(&observed, target)?;
        let mut effective = effective(host, &observed, &base.loaded, target)?;
        if plan::asks_for_pods(&observed, target, &effective) {
            effective.pods = pods(host, &observed, &effective.socket)?;
        }
        let plan = plan::plan(&observed, target, &base, &effective)?;
        check_candidate(host, &observed, &effective, &plan)?;
        Ok((effective, plan))
    })();
    match decided {
        Ok((effective, plan)) => Ok(Prepared { observed, effective, plan }),
        Err(stop) => Err((stop, Some(Box::new(observed)))),
    }
}

/// Brings the node to its target and says how it went.
pub fn carry_out(host: &Host, settings: &Settings, target: &Target, progress: Progress<'_>) -> (Report, Option<Stop>) {
    let mut report = Report { version: 1, order: target.order.clone(), ..Report::default() };
    progress("look at the node");
    let prepared = prepare(host, settings, target)
        .and_then(repairable)
        .and_then(|prepared| fetched(host, settings, target, prepared, progress));
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err((stop, observed)) => {
            if let Some(observed) = &observed {
                describe(&mut report, observed);
            }
            report.runtimes = unreached(target, observed.as_deref(), &stop);
            return failed(report, stop);
        }
    };
    let Prepared { observed, effective, plan } = &prepared;
    describe(&mut report, observed);
    if plan.is_empty(observed) {
        progress("everything is as it should be: nothing to do");
        report.runtimes.clone_from(&plan.runtimes);
        return (report, None);
    }
    let cri_patience = settings.cri_patience;
    let restarts = Cell::new(0);
    let transaction = Transaction { host, observed, effective, plan, cri_patience, progress, restarts };
    let outcome = transaction.run();
    report.restarts = transaction.restarts.get();
    match without_downloads(host, &observed.install_dir, outcome.err()) {
        None => {
            report.runtimes.clone_from(&plan.runtimes);
            (report, None)
        }
        Some(stop) => {
            report.runtimes = unreached(target, Some(observed), &stop);
            failed(report, stop)
        }
    }
}

/// The run, unless it would have to repair what nobody has: a status tells that as a problem, a run stops.
fn repairable(prepared: Prepared) -> Result<Prepared, (Stop, Option<Box<Observed>>)> {
    let lost = prepared.plan.change.iter().find_map(|step| match step {
        Step::Repair { artifact, folder, damage } if artifact.source == Place::OnNode => {
            let name = &artifact.name;
            let words = format!("{}: {damage}, and the installer's bundle has no runtime `{name}`", folder.display());
            let stop = Stop::unchanged(format!("repair the runtime {name}"), Reason::BundleNotUsable, words);
            Some(stop.with_remedy("use an installer image that carries the runtime, or uninstall it"))
        }
        _ => None,
    });
    match lost {
        None => Ok(prepared),
        Some(stop) => Err((stop, Some(Box::new(prepared.observed)))),
    }
}

/// The run with everything that had to be fetched; what was fetched in vain is gone again.
fn fetched(
    host: &Host,
    settings: &Settings,
    target: &Target,
    mut prepared: Prepared,
    progress: Progress<'_>,
) -> Result<Prepared, (Stop, Option<Box<Observed>>)> {
    let Prepared { observed, effective, plan } = &mut prepared;
    if !observed.artifacts.values().any(|artifact| matches!(artifact.source, Place::Remote(_))) {
        return Ok(prepared);
    }
    let install_dir = observed.install_dir.clone();
    let planned = fetch::clean_up(&host.files, &install_dir)
        .map_err(|error| Stop::unchanged("clean up after an earlier run", Reason::FileNotChanged, error))
        .and_then(|()| fetch::fetch(host, settings, target, &install_dir, &mut observed.artifacts, progress))
        .and_then(|()| plan::plan(observed, target, &plan::base(observed, target)?, effective));
    match planned {
        Ok(planned) => {
            *plan = planned;
            Ok(prepared)
        }
        Err(stop) => {
            let stop = without_downloads(host, &install_dir, Some(stop.clone())).unwrap_or(stop);
            Err((stop, Some(Box::new(prepared.observed))))
        }
    }
}

/// Takes away what was fetched, whether the run went well or stopped; what stays is somebody's to look at.
fn without_downloads(host: &Host, install_dir: &Path, stop: Option<Stop>) -> Option<Stop> {
    let Err(error) = fetch::clean_up(&host.files, install_dir) else { return stop };
    let well = || Stop::unchanged("clean up", Reason::FileNotChanged, "CRI serves what it should");
    let mut stop = stop.unwrap_or_else(well);
    stop.message = format!("{}\nand what was fetched could not be removed: {error}", stop.message);
    Some(stop.left(NodeState::NeedsAttention))
}

/// The Report of a run that could not even begin.
#[must_use]
pub fn refused(stop: Stop) -> (Report, Option<Stop>) {
    failed(Report { version: 1, ..Report::default() }, stop)
}

fn failed(mut report: Report, stop: Stop) -> (Report, Option<Stop>) {
    report.failure = Some(stop.failure());
    (report, Some(stop))
}

fn describe(report: &mut Report, observed: &Observed) {
    let platform = &observed.platform;
    report.distribution = Some(platform.kind.to_string());
    report.containerd = Some(Containerd {
        version: platform.daemon.version.clone(),
        config_version: observed.config_version(),
        unit: platform.daemon.unit.clone(),
    });
}

/// What is on the node after a failure: what was there before, unless undoing failed.
fn unreached(target: &Target, observed: Option<&Observed>, stop: &Stop) -> Vec<RuntimeReport> {
    let known = observed.and_then(|observed| observed.ledger.as_ref()).map(|ledger| ledger.current.runtimes.as_slice());
    let known = known.unwrap_or_default();
    let kept = stop.state != NodeState::NeedsAttention;
    let wanted = target.runtimes.iter().map(|wanted| {
        let unchanged = kept && known.contains(&wanted.runtime);
        RuntimeReport::of(&wanted.runtime, if unchanged { RuntimeState::Ready } else { RuntimeState::Failed })
    });
    let left = known.iter().filter(|old| !target.runtimes.iter().any(|wanted| wanted.runtime.name == old.name));
    let state = if kept { RuntimeState::Ready } else { RuntimeState::Failed };
    wanted.chain(left.map(|runtime| RuntimeReport::of(runtime, state))).collect()
}
