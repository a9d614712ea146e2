//! Every choice of a run, without touching anything: from what was observed to what will be done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kwasm_api::report::{RuntimeReport, RuntimeState};
use kwasm_api::runtime::Runtime;
use serde_json::Value as Json;

use crate::artifacts::{Artifact, runtimes_dir, text_digest};
use crate::config::dialect::DialectError;
use crate::config::edit::{self, EditError};
use crate::config::{Dialect, Entry};
use crate::failure::{Reason, Stop};
use crate::ledger::{ConfigRecord, State};
use crate::observe::{Effective, Observed, Standing};
use crate::step::{Step, kept};
use crate::target::{Target, Wanted, WantedSource};
use crate::verify::Expected;

/// The configuration as it would be without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its text; `None`: no file.
    pub text: Option<String>,
    /// Whose tables the daemon reads in it.
    pub dialect: Dialect,
    /// The version that the file itself names.
    pub declared: Dialect,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Changes before the restart; undone if anything fails.
    pub change: Vec<Step>,
    /// The unit to restart, if the running daemon does not serve what it should.
    pub restart: Option<String>,
    /// What is removed after the verification.
    pub cleanup: Vec<Step>,
    /// The configuration file's new text; `None`: no file.
    pub config: Option<String>,
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
        self.change.is_empty() && self.restart.is_none() && self.cleanup.is_empty() && recorded
    }

    /// Whether nothing of ours stays on the node.
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        self.state.is_empty() && self.state.created_dirs.is_empty()
    }
}

/// Works out the configuration without us.
///
/// # Errors
/// If the file is not one that can be edited.
pub fn base(observed: &Observed, target: &Target) -> Result<Base, Stop> {
    let major = observed.daemon.major;
    let fresh = if major >= 2 { Dialect::V3 } else { Dialect::V2 };
    let Some(text) = &observed.config else {
        return Ok(Base { text: None, dialect: fresh, declared: fresh });
    };
    let declared = Dialect::of(text).map_err(|error| dialect_stop(observed, &error))?;
    let dialect = declared.as_read_by(major);
    let ours = observed.state.config.as_ref().filter(|record| record.path == observed.daemon.config_path);
    let text = match ours {
        Some(record) => without_record(text, dialect, record),
        None => Ok(Some(text.clone())),
    };
    let text = text.and_then(|text| without_adopted(text, dialect, observed, target));
    let text = text.map_err(|error| edit_stop(observed, &error))?;
    // Without us there may be no file any more: then one would be created in the newest dialect of the daemon.
    let (dialect, declared) = if text.is_some() { (dialect, declared) } else { (fresh, fresh) };
    Ok(Base { text, dialect, declared })
}

/// Takes out what we put in: all of it if nobody else has touched the file, else only our keys.
fn without_record(text: &str, dialect: Dialect, record: &ConfigRecord) -> Result<Option<String>, EditError> {
    if record.wrote(text) {
        return Ok(record.original.clone());
    }
    let there = edit::handlers(text, dialect)?;
    let defaults: Vec<String> = record.defaults.iter().map(|entry| entry.handler.clone()).collect();
    let untouched =
        record.defaults.iter().all(|entry| there.get(&entry.handler) == Some(&Json::Object(entry.table.clone())));
    let alone = there.keys().all(|name| record.handlers.contains(name) || defaults.contains(name));
    let mut handlers = record.handlers.clone();
    // Somebody else's handler in the table would make containerd 1.x forget its built-in ones.
    if untouched && alone {
        handlers.extend(defaults);
    }
    let cut = match edit::cut_block(text, dialect, &record.block, &handlers) {
        Some(cut) => cut,
        None => edit::remove(text, dialect, &handlers)?,
    };
    let nothing_else = record.original.is_none() && cut == created(dialect);
    Ok((!nothing_else).then_some(cut))
}

/// Takes out entries of KWasm, of runtime-class-manager, or of ours that the ledger does not know, where the
/// target has a runtime of that name.
fn without_adopted(
    text: Option<String>,
    dialect: Dialect,
    observed: &Observed,
    target: &Target,
) -> Result<Option<String>, EditError> {
    let Some(text) = text else { return Ok(None) };
    let there = edit::handlers(&text, dialect)?;
    let adopted: Vec<String> = target
        .runtimes
        .iter()
        .filter(|wanted| wanted.source != WantedSource::Preinstalled)
        .map(|wanted| wanted.runtime.handler.clone())
        .filter(|handler| there.get(handler).is_some_and(|table| is_adoptable(table, &observed.install_dir)))
        .collect();
    if adopted.is_empty() { Ok(Some(text)) } else { edit::remove(&text, dialect, &adopted).map(Some) }
}

fn is_adoptable(table: &Json, install_dir: &Path) -> bool {
    let named = [table.get("runtime_type"), table.pointer("/options/BinaryName")];
    let folders = [Path::new("/opt/kwasm"), Path::new("/opt/rcm"), install_dir];
    named
        .iter()
        .flatten()
        .filter_map(|path| path.as_str())
        .any(|path| folders.iter().any(|folder| Path::new(path).starts_with(folder)))
}

/// The file that is created where there is none: what it leaves out keeps the daemon's defaults.
fn created(dialect: Dialect) -> String {
    format!("version = {}\n", dialect.number())
}

/// Decides everything else.
///
/// # Errors
/// If the target cannot be reached from here.
pub fn plan(observed: &Observed, target: &Target, base: &Base, effective: &Effective) -> Result<Plan, Stop> {
    check_binaries(observed)?;
    refuse_in_use(observed, target)?;
    let wanted: Vec<(&Wanted, Option<Entry>)> =
        target.runtimes.iter().map(|wanted| (wanted, entry(wanted, observed))).collect();
    let ours = sort_out(&wanted, observed, effective)?;
    let (config, record) = configure(observed, base, effective, &ours)?;
    let expected = expect(observed, &wanted, effective);
    let mut state = State {
        install_dir: Some(observed.install_dir.clone()),
        runtimes: target.runtimes.iter().map(|wanted| wanted.runtime.clone()).collect(),
        artifacts: observed.artifacts.values().map(Artifact::remembered).collect(),
        config: record,
        created_dirs: Vec::new(),
    };
    let cleanup = cleanup(observed, target);
    state.created_dirs = created_dirs(observed, &state, &cleanup);
    if state.is_empty() && state.created_dirs.is_empty() {
        state.install_dir = None;
    }
    let change = changes(observed, config.as_ref(), &state);
    let served = effective.cri.ready && expected.ours_served(&effective.cri);
    Ok(Plan {
        change,
        restart: (!served).then(|| observed.daemon.unit.clone()),
        cleanup,
        runtimes: reports(observed, target),
        config,
        expected,
        state,
    })
}

/// How a runtime is to stand in the configuration; `None`: it is there already.
#[must_use]
pub fn entry(wanted: &Wanted, observed: &Observed) -> Option<Entry> {
    let path = binary(wanted, observed)?.display().to_string();
    let handler = &wanted.runtime.handler;
    let plain = if wanted.is_oci() { Entry::oci(handler, &path) } else { Entry::shim(handler, &path) };
    let options = wanted.runtime.options.iter();
    let full = options.fold(plain, |entry, (name, value)| entry.with_option(name, value));
    Some(full.with_pod_annotations(&wanted.runtime.pod_annotations))
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
    let mut links: BTreeSet<PathBuf> = BTreeSet::new();
    for artifact in observed.artifacts.values() {
        if !links.insert(artifact.link(&observed.install_dir)) {
            let words = format!("two artifacts of this Order have the file {}", artifact.shim);
            return Err(Stop::unchanged(step, Reason::InvalidOrder, words));
        }
    }
    Ok(())
}

/// Promise: a runtime in use is not removed. A newer version of one that stays may be installed beside it.
fn refuse_in_use(observed: &Observed, target: &Target) -> Result<(), Stop> {
    let stays: BTreeSet<&str> = target.runtimes.iter().filter_map(Wanted::artifact).collect();
    let runtimes = runtimes_dir(&observed.install_dir);
    let users: Vec<String> = observed
        .processes
        .iter()
        .filter(|process| !stays.iter().any(|name| process.program.starts_with(runtimes.join(name))))
        .map(|process| format!("{} (pid {})", process.name, process.pid))
        .collect();
    if users.is_empty() || observed.forced {
        return Ok(());
    }
    let words = format!("still running: {}", users.join(", "));
    Err(Stop::unchanged("look for containers of the runtime", Reason::RuntimeInUse, words))
}

/// The entries that are ours to write: not those that somebody else wrote just so.
fn sort_out(
    wanted: &[(&Wanted, Option<Entry>)],
    observed: &Observed,
    effective: &Effective,
) -> Result<Vec<Entry>, Stop> {
    let path = observed.daemon.config_path.display();
    let there = effective.dump.handlers();
    let mut ours = Vec::new();
    for (wanted, entry) in wanted {
        let handler = &wanted.runtime.handler;
        match (there.get(handler), entry) {
            (Some(_), None) => {}
            (None, Some(entry)) => ours.push(entry.clone()),
            (Some(table), Some(entry)) if entry.is_in(table) => {}
            (Some(table), Some(_)) => {
                let words = format!(
                    "{path} has a handler `{handler}` of somebody else's: runtime_type = {}",
                    table.get("runtime_type").unwrap_or(&Json::Null)
                );
                return Err(Stop::unchanged("compare the handlers", Reason::HandlerConflict, words));
            }
            (None, None) => {
                let words = format!("{path} has no handler `{handler}`, which is said to be preinstalled");
                return Err(Stop::unchanged("compare the handlers", Reason::HandlerMissing, words));
            }
        }
    }
    Ok(ours)
}

/// The configuration's new text and the record of it.
fn configure(
    observed: &Observed,
    base: &Base,
    effective: &Effective,
    ours: &[Entry],
) -> Result<(Option<String>, Option<ConfigRecord>), Stop> {
    if ours.is_empty() {
        return Ok((base.text.clone(), None));
    }
    let fail = |error: EditError| edit_stop(observed, &error);
    let text = base.text.clone().unwrap_or_else(|| created(base.dialect));
    let defaults = defaults(observed, &text, base.dialect, effective).map_err(fail)?;
    let entries: Vec<Entry> = defaults.iter().chain(ours).cloned().collect();
    let edited = edit::add(&text, base.dialect, &entries).map_err(fail)?;
    let mut record = ConfigRecord {
        path: observed.daemon.config_path.clone(),
        original: base.text.clone(),
        written: text_digest(&edited.text),
        block: edited.block,
        handlers: ours.iter().map(|entry| entry.handler.clone()).collect(),
        defaults,
    };
    let Some(current) = observed.config.as_ref().filter(|current| edit::same(current, &edited.text)) else {
        return Ok((Some(edited.text), Some(record)));
    };
    // Nothing is written when nothing would change, even where ours stands elsewhere or was written by others.
    match &observed.state.config {
        Some(known) if known.handlers == record.handlers && known.path == record.path => record = known.clone(),
        _ => {
            record.written = text_digest(current);
            record.block = String::new();
        }
    }
    Ok((Some(current.clone()), Some(record)))
}

/// containerd 1.x forgets its built-in handlers as soon as the file has a table of runtimes; 2.x does not.
fn defaults(observed: &Observed, text: &str, dialect: Dialect, effective: &Effective) -> Result<Vec<Entry>, EditError> {
    if observed.daemon.major >= 2 || !edit::handlers(text, dialect)?.is_empty() {
        return Ok(Vec::new());
    }
    let built_in = effective.dump.handlers().into_iter().filter_map(|(handler, table)| match table {
        Json::Object(table) => Some(Entry { handler, table }),
        _ => None,
    });
    Ok(built_in.collect())
}

fn expect(observed: &Observed, wanted: &[(&Wanted, Option<Entry>)], effective: &Effective) -> Expected {
    let entries: Vec<Entry> = wanted.iter().filter_map(|(_, entry)| entry.clone()).collect();
    let there = effective.dump.handlers();
    let others: Vec<String> =
        there.keys().filter(|name| !entries.iter().any(|entry| entry.handler == **name)).cloned().collect();
    let before = observed.ledger.iter().flat_map(|ledger| {
        let pending = ledger.pending.iter().filter_map(|pending| pending.state.config.as_ref());
        ledger.current.config.iter().chain(pending)
    });
    let mut gone: Vec<String> = before
        .flat_map(|record| record.handlers.iter())
        .filter(|name| !there.contains_key(*name) && !entries.iter().any(|entry| entry.handler == **name))
        .cloned()
        .collect();
    gone.sort();
    gone.dedup();
    Expected { entries, others, gone }
}

fn changes(observed: &Observed, config: Option<&String>, state: &State) -> Vec<Step> {
    let mut steps: Vec<Step> = observed
        .missing_dirs
        .iter()
        .filter(|dir| state.created_dirs.contains(dir))
        .cloned()
        .map(Step::MakeDir)
        .collect();
    for artifact in observed.artifacts.values() {
        let folder = artifact.folder(&observed.install_dir);
        if !observed.installed.contains(&(artifact.name.clone(), artifact.digest.clone())) {
            steps.push(Step::Install { artifact: artifact.clone(), folder: folder.clone() });
        }
        let (path, target) = (artifact.link(&observed.install_dir), folder.join(&artifact.shim));
        let previous = observed.links.get(&path).cloned().unwrap_or(Standing::Nothing);
        if previous != Standing::Link(target.clone()) {
            steps.push(Step::Link { path, target, previous });
        }
    }
    if observed.config.as_ref() != config {
        steps.push(Step::Configure {
            path: observed.daemon.config_path.clone(),
            text: config.cloned(),
            previous: observed.config.clone(),
            attributes: observed.config_attributes,
        });
    }
    steps
}

/// Directories that will have been created by us and are still there afterwards.
fn created_dirs(observed: &Observed, state: &State, cleanup: &[Step]) -> Vec<PathBuf> {
    let before = observed.state.created_dirs.iter().filter(|dir| observed.own_dirs.contains(dir));
    let mut dirs: Vec<PathBuf> = before.cloned().collect();
    let for_config = observed.daemon.config_path.parent().filter(|_| state.config.is_none());
    let new = observed.missing_dirs.iter().filter(|dir| !for_config.is_some_and(|parent| parent.starts_with(dir)));
    dirs.extend(new.cloned());
    dirs.sort();
    dirs.dedup();
    dirs.retain(|dir| !cleanup.contains(&Step::RemoveDir(dir.clone())));
    dirs
}

/// What nothing names any more: links and artifacts that are not of the target, unless a process runs them.
fn cleanup(observed: &Observed, target: &Target) -> Vec<Step> {
    let dir = &observed.install_dir;
    let runtimes = runtimes_dir(dir);
    let in_use = |folder: &Path| observed.processes.iter().any(|process| process.program.starts_with(folder));
    let wanted_folders: BTreeSet<PathBuf> = observed.artifacts.values().map(|artifact| artifact.folder(dir)).collect();
    let wanted_links: BTreeSet<PathBuf> = observed.artifacts.values().map(|artifact| artifact.link(dir)).collect();
    let mut steps = Vec::new();
    for (path, standing) in &observed.links {
        let ours =
            matches!(standing, Standing::Link(to) if to.starts_with(&runtimes) && !in_use(to.parent().unwrap_or(to)));
        let replaced = *standing == Standing::File && wanted_links.contains(path);
        if ours && !wanted_links.contains(path) {
            steps.push(Step::Unlink(path.clone()));
        } else if replaced {
            steps.push(Step::Unlink(kept(path)));
        } else if is_leftover(path) {
            steps.push(Step::Unlink(path.clone()));
        }
    }
    steps.extend(observed.config_leftover.iter().cloned().map(Step::Unlink));
    steps.extend(observed.fetch_leftovers.iter().cloned().map(Step::Discard));
    let mut kept_folders = wanted_folders.clone();
    for (name, digest) in &observed.installed {
        let folder = runtimes.join(name).join(digest);
        if in_use(&folder) {
            kept_folders.insert(folder);
        } else if !wanted_folders.contains(&folder) {
            steps.push(Step::Discard(folder));
        }
    }
    if target.runtimes.is_empty() && kept_folders.is_empty() {
        steps.extend(observed.cache.clone().map(Step::Discard));
        steps.extend(observed.own_dirs.iter().rev().cloned().map(Step::RemoveDir));
    }
    steps
}

/// A name that only an interrupted run leaves.
fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.starts_with('.') && (name.ends_with(".kwasm-new") || name.ends_with(".kwasm-old"))
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
    /// Every runtime that the ledger knows, the ones of an unfinished transaction among them.
    #[must_use]
    pub fn runtimes_before(&self) -> Vec<Runtime> {
        let Some(ledger) = &self.ledger else { return Vec::new() };
        let mut all = ledger.current.runtimes.clone();
        for runtime in ledger.pending.iter().flat_map(|pending| &pending.state.runtimes) {
            if !all.iter().any(|known| known.name == runtime.name) {
                all.push(runtime.clone());
            }
        }
        all
    }
}

fn dialect_stop(observed: &Observed, error: &DialectError) -> Stop {
    let path = observed.daemon.config_path.display();
    let reason = match error {
        DialectError::NotToml { .. } => Reason::ConfigNotToml,
        DialectError::UnknownVersion(_) => Reason::ConfigVersionNotSupported,
    };
    Stop::unchanged(format!("read {path}"), reason, format!("{path}: {error}"))
}

fn edit_stop(observed: &Observed, error: &EditError) -> Stop {
    let path = observed.daemon.config_path.display();
    Stop::unchanged(format!("edit {path}"), Reason::ConfigLayoutNotSupported, format!("{path}: {error}"))
}
