//! What a command asks for, as the whole that the node should have.

use std::collections::BTreeMap;

use kwasm_api::runtime::{Bundled, Runtime, RuntimeKind, Source};

use super::Prelude;
use super::arguments::Do;
use crate::failure::{Reason, Stop, listed};
use crate::ledger::Ledger;
use crate::observe::{Host, observe};
use crate::run::prepare;
use crate::target::{Target, TargetError};

/// The target of a command; `None` where there is nothing to recover.
///
/// # Errors
/// If the command line names what is not there, or the ledger or the Order cannot be used.
pub(super) fn target(command: &Do, prelude: &Prelude, host: &Host) -> Result<Option<Target>, Stop> {
    let runtimes = match command {
        Do::Apply { .. } | Do::Plan { .. } => {
            return prelude.order.clone().unwrap_or_else(|| Ok(Target::default())).map(Some).map_err(order_stop);
        }
        Do::Recover => return recovered(prelude, host),
        Do::Status | Do::Verify => recorded(host)?,
        Do::Install { names, .. } => added(recorded(host)?, names, prelude)?,
        Do::Uninstall { names, .. } => without(recorded(host)?, names)?,
    };
    Target::from_runtimes(&runtimes).map(Some).map_err(order_stop)
}

fn recorded(host: &Host) -> Result<Vec<Runtime>, Stop> {
    let ledger = Ledger::read(&host.files).map_err(|error| error.stop())?;
    Ok(ledger.map(|ledger| ledger.current.runtimes).unwrap_or_default())
}

fn added(mut runtimes: Vec<Runtime>, names: &[String], prelude: &Prelude) -> Result<Vec<Runtime>, Stop> {
    let names = if names.is_empty() { &prelude.names } else { names };
    if names.is_empty() {
        return Err(unknown("there is no bundled runtime")
            .with_remedy("name the folder of the bundled runtimes with --bundled-dir (in the image it is /bundled)"));
    }
    runtimes.retain(|runtime| !names.contains(&runtime.name));
    runtimes.extend(names.iter().map(|name| bundled(name)));
    Ok(runtimes)
}

fn without(mut runtimes: Vec<Runtime>, names: &[String]) -> Result<Vec<Runtime>, Stop> {
    if let Some(name) = names.iter().find(|name| !runtimes.iter().any(|runtime| runtime.name == **name)) {
        let there: Vec<&str> = runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
        let there = listed(&there);
        return Err(unknown(format!("no runtime `{name}` of ours is on this node; there is: {there}")));
    }
    runtimes.retain(|runtime| !names.is_empty() && !names.contains(&runtime.name));
    Ok(runtimes)
}

/// What an unfinished transaction leads to, or, where that cannot be reached any more, what was there before.
fn recovered(prelude: &Prelude, host: &Host) -> Result<Option<Target>, Stop> {
    let observed = observe(host, &prelude.settings, &Target::default())?;
    let Some(ledger) = observed.ledger.as_ref().filter(|ledger| ledger.pending.is_some()) else { return Ok(None) };
    let meant = Target::from_runtimes(&observed.state.runtimes).map_err(order_stop)?;
    if prepare(host, &prelude.settings, &meant).is_ok() {
        return Ok(Some(meant));
    }
    Target::from_runtimes(&ledger.current.runtimes).map(Some).map_err(order_stop)
}

fn bundled(name: &str) -> Runtime {
    Runtime {
        name: name.to_owned(),
        handler: name.to_owned(),
        revision: String::new(),
        kind: RuntimeKind::Shim,
        source: Source::Bundled(Bundled::default()),
        options: BTreeMap::new(),
        pod_annotations: Vec::new(),
    }
    .revise()
}

fn unknown(words: impl ToString) -> Stop {
    Stop::unchanged("read the command line", Reason::InvalidCommandLine, words)
}

fn order_stop(error: TargetError) -> Stop {
    Stop::unchanged("read the Order", Reason::InvalidOrder, error)
}
