//! The configuration's new text, what the daemon would load then, and the record of it.

use serde_json::Value as Json;

use super::base::{Base, edit_stop};
use crate::artifacts::text_digest;
use crate::config::edit::{self, EditError, Edited};
use crate::config::{Dialect, Entry, template};
use crate::failure::Stop;
use crate::ledger::ConfigRecord;
use crate::observe::{Effective, Loadable, Observed};
use crate::platform::Form;

/// What becomes of the configuration.
pub(super) struct Configured {
    /// The new text of the file that is ours to write; `None`: no file.
    pub(super) text: Option<String>,
    /// What the daemon would load.
    pub(super) candidate: Loadable,
    /// What the ledger will say.
    pub(super) record: Option<ConfigRecord>,
}

/// The configuration with these entries.
pub(super) fn configure(
    observed: &Observed,
    base: &Base,
    effective: &Effective,
    ours: &[Entry],
) -> Result<Configured, Stop> {
    if ours.is_empty() {
        return Ok(Configured { text: base.text.clone(), candidate: base.loaded.clone(), record: None });
    }
    let fail = |error: EditError| edit_stop(observed, &error);
    let layout = &observed.platform.layout;
    let defaults = defaults(observed, base, effective).map_err(fail)?;
    let entries: Vec<Entry> = defaults.iter().chain(ours).cloned().collect();
    let edited = edited(&layout.form, base, &entries).map_err(fail)?;
    let mut record = ConfigRecord {
        path: layout.path.clone(),
        original: base.text.clone(),
        written: text_digest(&edited.text),
        block: edited.block,
        handlers: ours.iter().map(|entry| entry.handler.clone()).collect(),
        defaults,
    };
    let mut text = edited.text;
    // Nothing is written when nothing would change, even where ours stands elsewhere or was written by others.
    if let Some(current) = observed.config.as_ref().filter(|current| edit::same(current, &text)) {
        match &observed.state.config {
            Some(known) if known.handlers == record.handlers && known.path == record.path => record = known.clone(),
            _ => {
                record.written = text_digest(current);
                record.block = String::new();
            }
        }
        text.clone_from(current);
    }
    let candidate = candidate(base, &text, &entries).map_err(fail)?;
    Ok(Configured { text: Some(text), candidate, record: Some(record) })
}

fn edited(form: &Form, base: &Base, entries: &[Entry]) -> Result<Edited, EditError> {
    let text = |beginning: String| base.text.clone().unwrap_or(beginning);
    match form {
        Form::Template => Ok(template::add(&text(template::BASE.to_owned()), base.dialect, entries)),
        _ => edit::add(&text(base.dialect.beginning()), base.dialect, entries),
    }
}

/// What the daemon would load with our file's new text. What a distribution renders ends up as if it had been
/// added to what it rendered before.
fn candidate(base: &Base, text: &str, entries: &[Entry]) -> Result<Loadable, EditError> {
    Ok(match &base.loaded {
        Loadable::Import { root, .. } => Loadable::Import { root: root.clone(), drop_in: Some(text.to_owned()) },
        Loadable::Crio { .. } => Loadable::Crio { drop_in: Some(text.to_owned()) },
        Loadable::File(rendered) if base.text.as_ref() != Some(rendered) => {
            Loadable::File(edit::add(rendered, base.dialect, entries)?.text)
        }
        Loadable::File(_) | Loadable::Defaults => Loadable::File(text.to_owned()),
    })
}

/// containerd 1.x forgets its built-in handlers as soon as the file has a table of runtimes; 2.x does not.
fn defaults(observed: &Observed, base: &Base, effective: &Effective) -> Result<Vec<Entry>, EditError> {
    let text = match &base.loaded {
        Loadable::File(text) => text.as_str(),
        Loadable::Defaults => "",
        Loadable::Import { .. } | Loadable::Crio { .. } => return Ok(Vec::new()),
    };
    let merges = observed.platform.daemon.major >= 2 || base.dialect == Dialect::Crio;
    if merges || !edit::handlers(text, base.dialect)?.is_empty() {
        return Ok(Vec::new());
    }
    let built_in = effective.dump.handlers().into_iter().filter_map(|(handler, table)| match table {
        Json::Object(table) => Some(Entry { handler, table }),
        _ => None,
    });
    Ok(built_in.collect())
}
