//! The configuration as it would be without us.

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::artifacts::KWASM_0_2_DIRS;
use crate::config::dialect::DialectError;
use crate::config::edit::{self, EditError};
use crate::config::{Dialect, template};
use crate::failure::{Reason, Stop};
use crate::ledger::ConfigRecord;
use crate::observe::{Loadable, Observed};
use crate::platform::{Daemon, Form, Kind};
use crate::target::{Target, WantedSource};

/// The configuration as it would be without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Text of the file that is ours to write; `None`: no file.
    pub text: Option<String>,
    /// What the daemon would load.
    pub loaded: Loadable,
    /// Whose tables the daemon reads.
    pub dialect: Dialect,
}

/// Works out the configuration without us.
///
/// # Errors
/// If the file is not one that can be edited.
pub fn base(observed: &Observed, target: &Target) -> Result<Base, Stop> {
    let form = &observed.platform.layout.form;
    let fresh = Dialect::fresh(observed.platform.daemon.major);
    if !form.is_written() {
        let text = observed.config.clone();
        return Ok(Base { loaded: untouched(observed), text, dialect: fresh });
    }
    let Some(dialect) = dialect(observed)? else {
        return Ok(Base { text: None, loaded: Loadable::Defaults, dialect: fresh });
    };
    let fail = |error: EditError| edit_stop(observed, &error);
    let mut gone = observed.handlers_before();
    let Some(text) = &observed.config else {
        // What a distribution rendered may still hold what a run that was cut off took out.
        let loaded = loaded(observed, dialect, None, &gone).map_err(fail)?;
        return Ok(Base { text: None, loaded, dialect });
    };
    let ours = observed.state.config.as_ref().filter(|record| record.path == observed.platform.layout.path);
    let text = match ours {
        Some(record) => without_record(text, dialect, form, record, &mut gone),
        None => Ok(Some(text.clone())),
    };
    let text = text.and_then(|text| without_adopted(text, dialect, observed, target, &mut gone)).map_err(fail)?;
    let kept = handlers(text.as_deref().unwrap_or_default(), dialect, form).map_err(fail)?;
    gone.retain(|handler| !kept.contains_key(handler));
    let loaded = loaded(observed, dialect, text.as_deref(), &gone).map_err(fail)?;
    // Without us there may be no file any more: then one would be created in the daemon's own dialect.
    let dialect = if *form == Form::Main && text.is_none() { fresh } else { dialect };
    Ok(Base { text, loaded, dialect })
}

/// Whose tables the daemon reads; `None` if there is no file yet.
fn dialect(observed: &Observed) -> Result<Option<Dialect>, Stop> {
    if observed.platform.kind == Kind::Crio {
        return Ok(Some(Dialect::Crio));
    }
    let layout = &observed.platform.layout;
    let Daemon { major, minor, .. } = observed.platform.daemon;
    let text = if layout.form == Form::Main { &observed.config } else { &observed.loaded };
    let dialect = text.as_deref().map(|text| Ok(Dialect::of(text)?.as_read_by((major, minor), text)));
    dialect.transpose().map_err(|error| dialect_stop(&layout.loaded, &error))
}

/// What the daemon loads, `own` being the text of our file; where it is rendered, without these handlers.
fn loaded(observed: &Observed, dialect: Dialect, own: Option<&str>, gone: &[String]) -> Result<Loadable, EditError> {
    let own = own.map(str::to_owned);
    let root = || observed.loaded.clone().unwrap_or_default();
    Ok(match observed.platform.layout.form {
        Form::Main => own.map_or(Loadable::Defaults, Loadable::File),
        Form::Source | Form::Template => Loadable::File(edit::remove(&root(), dialect, gone)?),
        Form::Import => Loadable::Import { root: root(), drop_in: own },
        Form::CrioDropIn => Loadable::Crio { drop_in: own },
        Form::ByName | Form::Fixed(_) => untouched(observed),
    })
}

fn untouched(observed: &Observed) -> Loadable {
    if observed.platform.kind == Kind::Crio {
        return Loadable::Crio { drop_in: None };
    }
    let text = observed.loaded.as_ref().or(observed.config.as_ref());
    text.cloned().map_or(Loadable::Defaults, Loadable::File)
}

/// Takes out what we put in: all of it if nobody else has touched the file, else only our keys. Every handler
/// that goes is added to `gone`.
fn without_record(
    text: &str,
    dialect: Dialect,
    form: &Form,
    record: &ConfigRecord,
    gone: &mut Vec<String>,
) -> Result<Option<String>, EditError> {
    let there = handlers(text, dialect, form)?;
    let defaults: Vec<String> = record.defaults.iter().map(|entry| entry.handler.clone()).collect();
    let untouched =
        record.defaults.iter().all(|entry| there.get(&entry.handler) == Some(&Json::Object(entry.table.clone())));
    let alone = there.keys().all(|name| record.handlers.contains(name) || defaults.contains(name));
    let mut ours = record.handlers.clone();
    // Somebody else's handler in the table would make containerd 1.x forget its built-in ones.
    if record.wrote(text) || untouched && alone {
        ours.extend(defaults);
    }
    gone.extend(ours.iter().cloned());
    if record.wrote(text) {
        return Ok(record.original.clone());
    }
    if *form == Form::Template {
        let cut = template::cut(text, dialect, &record.block, &ours);
        let nothing_else = record.original.is_none() && cut == template::BASE;
        return Ok((!nothing_else).then_some(cut));
    }
    let cut = match edit::cut_block(text, dialect, &record.block, &ours) {
        Some(cut) => cut,
        None => edit::remove(text, dialect, &ours)?,
    };
    let nothing_else = record.original.is_none() && cut == dialect.beginning();
    Ok((!nothing_else).then_some(cut))
}

fn handlers(text: &str, dialect: Dialect, form: &Form) -> Result<Map<String, Json>, EditError> {
    match form {
        Form::Template => Ok(template::handlers(text, dialect)),
        _ => edit::handlers(text, dialect),
    }
}

/// Takes out entries of KWasm, of runtime-class-manager, or of ours that the ledger does not know, where the
/// target has a runtime of that name.
fn without_adopted(
    text: Option<String>,
    dialect: Dialect,
    observed: &Observed,
    target: &Target,
    gone: &mut Vec<String>,
) -> Result<Option<String>, EditError> {
    let Some(text) = text else { return Ok(None) };
    let form = &observed.platform.layout.form;
    let there = handlers(&text, dialect, form)?;
    let adopted: Vec<String> = target
        .runtimes
        .iter()
        .filter(|wanted| wanted.source != WantedSource::Preinstalled)
        .map(|wanted| wanted.runtime.handler.clone())
        .filter(|handler| there.get(handler).is_some_and(|table| is_adoptable(table, &observed.install_dir)))
        .collect();
    gone.extend(adopted.iter().cloned());
    match form {
        _ if adopted.is_empty() => Ok(Some(text)),
        Form::Template => Ok(Some(template::remove(&text, dialect, &adopted))),
        _ => edit::remove(&text, dialect, &adopted).map(Some),
    }
}

fn is_adoptable(table: &Json, install_dir: &Path) -> bool {
    let named = [table.get("runtime_type"), table.get("runtime_path"), table.pointer("/options/BinaryName")];
    let folders = KWASM_0_2_DIRS.into_iter().chain(["/opt/rcm"]).map(Path::new);
    let folders: Vec<&Path> = folders.chain([install_dir]).collect();
    named
        .iter()
        .flatten()
        .filter_map(|path| path.as_str())
        .any(|path| folders.iter().any(|folder| Path::new(path).starts_with(folder)))
}

fn dialect_stop(path: &Path, error: &DialectError) -> Stop {
    let path = path.display();
    let reason = match error {
        DialectError::NotToml { .. } => Reason::ConfigNotToml,
        DialectError::UnknownVersion(_) => Reason::ConfigVersionNotSupported,
    };
    Stop::unchanged(format!("read {path}"), reason, format!("{path}: {error}"))
}

pub(super) fn edit_stop(observed: &Observed, error: &EditError) -> Stop {
    let path = observed.platform.layout.path.display();
    Stop::unchanged(format!("edit {path}"), Reason::ConfigLayoutNotSupported, format!("{path}: {error}"))
}
