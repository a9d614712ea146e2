//! Carrying out a plan as one transaction: recorded before the first change, verified, or taken back.

use std::cell::Cell;
use std::time::Duration;

use kwasm_api::report::NodeState;

use crate::artifacts::text_digest;
use crate::config::dump::Dump;
use crate::failure::{Reason, Stop};
use crate::host::files::FileError;
use crate::host::system::SystemError;
use crate::ledger::{Interrupted, Ledger, Pending};
use crate::observe::{Effective, Host, Observed, load};
use crate::plan::Plan;
use crate::platform::{Form, TakeUp};
use crate::step::Step;
use crate::verify::{self, Expected, Unmet};

/// How long a shim may take to tell its version.
const ANSWER: Duration = Duration::from_secs(5);

/// How much of a daemon's own log is told, in bytes.
const LAST_WORDS: u64 = 2048;

/// Is told what is being done, one line at a time.
pub type Progress<'a> = &'a dyn Fn(&str);

/// One transaction on a node.
pub struct Transaction<'a> {
    /// The node.
    pub host: &'a Host,
    /// What was seen.
    pub observed: &'a Observed,
    /// What the daemon made of it.
    pub effective: &'a Effective,
    /// What is to be done.
    pub plan: &'a Plan,
    /// How long CRI may take after a restart.
    pub cri_patience: Duration,
    /// Is told what is being done.
    pub progress: Progress<'a>,
    /// How often the daemon was restarted until now, whether it started or not.
    pub restarts: Cell<u32>,
}

/// Asks the daemon itself what it would make of the plan's configuration.
///
/// # Errors
/// If it refuses it, if our handlers are not in it, or if anything else is different.
pub fn check_candidate(host: &Host, observed: &Observed, effective: &Effective, plan: &Plan) -> Result<(), Stop> {
    if observed.platform.layout.form == Form::ByName {
        return Ok(());
    }
    let path = observed.platform.layout.path.display();
    let daemon = observed.platform.kind.daemon();
    let step = format!("load the new {path} with {daemon}");
    let dump: Dump =
        load(host, observed, &plan.candidate).map_err(|error| error.stop(&step, Reason::CandidateRefused))?;
    let handlers: Vec<String> = plan.expected.entries.iter().map(|entry| entry.handler.clone()).collect();
    let loaded = dump.handlers();
    let absent =
        plan.expected.entries.iter().find(|entry| !loaded.get(&entry.handler).is_some_and(|table| entry.is_in(table)));
    if let Some(entry) = absent {
        let version = &observed.platform.daemon.version;
        let words = format!("{daemon} {version} would load {path} without the handler `{}`", entry.handler);
        return Err(Stop::unchanged(step, Reason::HandlerNotLoaded, words));
    }
    let differences = effective.dump.differences(&dump, &handlers);
    if differences.is_empty() {
        return Ok(());
    }
    let words = format!("besides our handlers it would change {}", differences.join(", "));
    Err(Stop::unchanged(step, Reason::CandidateChangesMore, words))
}

impl Transaction<'_> {
    /// Carries the plan out.
    ///
    /// # Errors
    /// If a step failed; what was done is undone then, and the error says whether that succeeded.
    pub fn run(&self) -> Result<(), Stop> {
        let mut done: Vec<Step> = self.unfinished().into_iter().collect();
        if !self.plan.change.is_empty() || self.plan.take_up.is_some() {
            self.begin().map_err(|error| self.take_back(&done, &file_stop("write the ledger", &error)))?;
        }
        for step in &self.plan.change {
            (self.progress)(&step.to_string());
            self.refuse_changed(step).map_err(|stop| self.take_back(&done, &stop))?;
            done.push(step.clone());
            step.apply(&self.host.files)
                .map_err(|error| self.take_back(&done, &file_stop(&step.to_string(), &error)))?;
        }
        self.take_up().and_then(|()| self.try_named()).map_err(|stop| self.take_back(&done, &stop))?;
        self.settle().map_err(|error| {
            let mut stop = file_stop("clean up", &error).left(NodeState::NeedsAttention);
            stop.message = format!("CRI serves what it should, but leftovers stay: {}", stop.message);
            stop
        })
    }

    /// A change of an earlier run that was never verified: if this run fails, it is undone too.
    fn unfinished(&self) -> Option<Step> {
        let previous = self.observed.unfinished()?;
        (self.progress)("an earlier run did not end: going on from where it stopped");
        Some(Step::Configure {
            path: self.observed.platform.layout.path.clone(),
            draft: self.observed.config_draft.clone(),
            text: self.observed.config.clone(),
            seen: self.observed.config.clone(),
            previous: previous.clone(),
            attributes: self.observed.config_attributes,
        })
    }

    fn begin(&self) -> Result<(), FileError> {
        let Observed { ledger, state, config, .. } = self.observed;
        let mut pending = Pending {
            state: self.plan.state.clone(),
            previous: self.observed.config_before().clone(),
            written: self.plan.config.as_deref().map(text_digest),
            from: None,
        };
        let mut current = state.clone();
        // What was verified last is what a failure leads back to, but not what the file says now.
        if let Some(ledger) = ledger.as_ref().filter(|_| self.observed.unfinished().is_some()) {
            current.clone_from(&ledger.current);
            pending.from = Some(Interrupted { state: state.clone(), written: config.as_deref().map(text_digest) });
        }
        Ledger { pending: Some(pending), ..Ledger::settled(current) }.write(&self.host.files)
    }

    /// What somebody else has written since it was read is not lost.
    fn refuse_changed(&self, step: &Step) -> Result<(), Stop> {
        let Step::Configure { path, .. } = step else { return Ok(()) };
        let now = self.host.files.read(path).map_err(|error| file_stop(&step.to_string(), &error))?;
        if now.as_deref() == self.observed.config.as_deref().map(str::as_bytes) {
            return Ok(());
        }
        let words = format!("somebody else has changed {} since it was read", path.display());
        Err(Stop::unchanged(step.to_string(), Reason::ConfigChanged, words))
    }

    fn take_up(&self) -> Result<(), Stop> {
        let Some(take_up) = &self.plan.take_up else { return Ok(()) };
        let step = take_up.to_string();
        (self.progress)(&step);
        self.reach_daemon(take_up)
            .map_err(|error| self.with_last_words(Stop::unchanged(&step, Reason::RestartFailed, error)))?;
        (self.progress)("wait for CRI to serve the handlers");
        self.wait(&self.plan.expected).map_err(|unmet| {
            let reason = match unmet {
                Unmet::NoAnswer(_) | Unmet::NotReady(_) | Unmet::NetworkLost => Reason::CriDidNotReturn,
                Unmet::NotServed(_) | Unmet::StillServed(_) => Reason::HandlerNotServed,
            };
            self.with_last_words(Stop::unchanged(step, reason, unmet))
        })?;
        (self.progress)("CRI serves the handlers");
        Ok(())
    }

    fn reach_daemon(&self, take_up: &TakeUp) -> Result<(), SystemError> {
        self.restarts.set(self.restarts.get() + 1);
        match take_up {
            TakeUp::Restart(unit) => self.host.system.restart(unit),
            TakeUp::EndInit => self.host.system.end_init(),
            TakeUp::Watched => Ok(()),
        }
    }

    /// Where there is no CRI to ask, the shims themselves are.
    fn try_named(&self) -> Result<(), Stop> {
        self.plan.named.iter().try_for_each(|shim| {
            let step = format!("ask {} for its version", shim.display());
            (self.progress)(&step);
            let answer = self.host.system.try_out(shim, "-v", ANSWER);
            let remedy = format!("run `{} -v` by hand: it must end with 0 on this machine", shim.display());
            answer.map_err(|error| Stop::unchanged(step, Reason::HandlerNotServed, error).with_remedy(&remedy))
        })
    }

    fn wait(&self, expected: &Expected) -> Result<(), Unmet> {
        verify::wait(&*self.host.system, &self.effective.socket, expected, self.cri_patience)
    }

    fn with_last_words(&self, mut stop: Stop) -> Stop {
        let words = self.last_words();
        stop.message = format!("{}\n{}", stop.message, words.trim_end());
        stop
    }

    fn last_words(&self) -> String {
        let daemon = &self.observed.platform.daemon;
        let journal = self.host.system.last_words(&daemon.unit);
        let log = daemon.log.as_ref().and_then(|log| self.host.files.tail(log, LAST_WORDS).ok());
        log.map_or_else(|| journal.clone(), |log| format!("{}\n{log}", journal.trim_end()))
    }

    fn settle(&self) -> Result<(), FileError> {
        let files = &self.host.files;
        if self.plan.leaves_nothing() && self.plan.cleanup.is_empty() {
            return Ledger::remove(files);
        }
        // Directories and links count as ours until they are gone.
        let mut state = self.plan.state.clone();
        state.named.extend(self.observed.state.named.iter().cloned());
        state.named.sort();
        state.named.dedup();
        state.created_dirs.extend(self.observed.state.created_dirs.iter().cloned());
        state.created_dirs.sort();
        state.created_dirs.dedup();
        Ledger::settled(state.clone()).write(files)?;
        for step in self.plan.cleanup.iter().filter(|step| !self.is_in_use(step)) {
            (self.progress)(&step.to_string());
            step.apply(files)?;
        }
        if self.plan.leaves_nothing() {
            return Ledger::remove(files);
        }
        if state == self.plan.state { Ok(()) } else { Ledger::settled(self.plan.state.clone()).write(files) }
    }

    /// Whether a pod that came after everything was looked at runs what should go: a later run takes it away.
    fn is_in_use(&self, step: &Step) -> bool {
        matches!(step, Step::Uninstall(folder) if !self.host.system.processes_below(folder).is_empty())
    }

    /// Undoes what was done, newest first, and says how that went. Each step relies on those before it, such as a
    /// link on the binaries that it leads to: what is beneath a step that cannot be undone stays.
    fn take_back(&self, done: &[Step], stop: &Stop) -> Stop {
        (self.progress)(&format!("failed: {}", stop.to_string().lines().next().unwrap_or_default()));
        let mut troubles: Vec<String> = Vec::new();
        for step in done.iter().rev() {
            (self.progress)(&format!("undo: {step}"));
            if let Err(error) = step.undo(&self.host.files) {
                troubles.push(error.to_string());
                break;
            }
        }
        // An unfinished earlier run may have left a daemon that has loaded what was just taken away.
        if self.restarts.get() > 0 || self.observed.unfinished().is_some() {
            let take_up = &self.observed.platform.take_up;
            (self.progress)(&format!("{take_up}, with the configuration before"));
            troubles.extend(self.reach_daemon(take_up).err().map(|error| error.to_string()));
            troubles.extend(self.wait(&self.before()).err().map(|unmet| unmet.to_string()));
        }
        if troubles.is_empty() {
            troubles.extend(self.forget().err().map(|error| error.to_string()));
        }
        let mut stop = stop.clone();
        if troubles.is_empty() {
            return stop.left(NodeState::RolledBack);
        }
        stop.message = format!("{}\nand undoing it failed: {}", stop.message, troubles.join("; "));
        stop.left(NodeState::NeedsAttention)
    }

    /// What CRI served before: it need not be what the configuration said.
    fn before(&self) -> Expected {
        let cri = &self.effective.cri;
        // What a run that did not end has left there goes as well.
        let unverified = self.observed.handlers_unverified();
        let others = cri.handlers.keys().filter(|name| !unverified.contains(name)).cloned().collect();
        Expected { others, network: cri.network_ready, ..Expected::default() }
    }

    /// Forgets this transaction, but not what a run that was cut off has left on the way to it.
    fn forget(&self) -> Result<(), FileError> {
        let previous = self.observed.config_before();
        let state = self.observed.ledger.as_ref().map(|ledger| ledger.at(previous.as_deref()));
        let files = &self.host.files;
        match state.filter(|state| !state.is_empty() || !state.created_dirs.is_empty()).map(Ledger::settled) {
            Some(ledger) if ledger.stands(files) => Ok(()),
            Some(ledger) => ledger.write(files),
            None => Ledger::remove(files),
        }
    }
}

fn file_stop(step: &str, error: &FileError) -> Stop {
    Stop::unchanged(step, Reason::FileNotChanged, error)
}
