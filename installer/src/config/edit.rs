//! Putting handlers into a configuration file and taking them out again.
//!
//! All that is added is one piece of text at one place: tables at the end of the file or, where the file
//! keeps the parent in an inline table, pairs before its closing brace. After every edit the result is
//! parsed and compared with what was meant; a difference is an error, never a written file.

use std::ops::Range;

use serde_json::{Map, Value as Json};
use toml_edit::{Document, DocumentMut};

use super::entry::{json, lookup, shown};
use super::outline::{Form, Outline};
use super::{Dialect, Entry};

/// The line above our tables, for people who read the file.
pub const MARK: &str = "# Added by kwasm-installer, which also takes it out again.";

/// The line above runtime-class-manager's tables begins so (v0.2).
const RCM_MARK: &str = "# RCM runtime config for ";

/// Why an edit was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is no TOML.
    #[error("not TOML: {0}")]
    NotToml(String),
    /// The result would not say what was meant.
    #[error("the layout of `{table}` cannot be edited without changing something else")]
    Layout {
        /// The table of handlers.
        table: String,
    },
}

/// A file with our handlers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The whole file.
    pub text: String,
    /// What was put in, as it stands in `text`.
    pub block: String,
}

/// The handlers that a file defines, by name.
///
/// # Errors
/// If it is not TOML.
pub fn handlers(text: &str, dialect: Dialect) -> Result<Map<String, Json>, EditError> {
    parsed(text)?;
    Ok(lookup_json(text, dialect.runtimes()))
}

/// The table that a path of keys leads to; an empty one if there is none.
pub(super) fn lookup_json(text: &str, path: &[&str]) -> Map<String, Json> {
    let found = parsed(text).ok().and_then(|document| lookup(&document, path).map(json));
    if let Some(Json::Object(table)) = found { table } else { Map::new() }
}

/// Adds handlers that the file does not define.
///
/// # Errors
/// If the file is not TOML, or defines a parent in a way that cannot be extended.
pub fn add(text: &str, dialect: Dialect, entries: &[Entry]) -> Result<Edited, EditError> {
    let outline = Outline::of(text).map_err(|error| EditError::NotToml(error.message().to_owned()))?;
    let (at, block) = match inline_parent(&outline, dialect) {
        Some((depth, range, empty)) => inline_insertion(text, dialect, entries, depth, range, empty),
        None => (text.len(), appended_block(text, dialect, entries)),
    };
    let mut edited = text.to_owned();
    edited.insert_str(at, &block);
    let mut meant = as_json(text)?;
    for entry in entries {
        put(&mut meant, dialect.runtimes(), entry);
    }
    let is = as_json(&edited).map_err(|_| layout(dialect))?;
    if is == meant { Ok(Edited { text: edited, block }) } else { Err(layout(dialect)) }
}

/// Takes a block that [`add`] put in out again, if it still stands there as it was written. `None` if not.
#[must_use]
pub fn cut_block(text: &str, dialect: Dialect, block: &str, handlers: &[String]) -> Option<String> {
    let cut = cut_text(text, block)?;
    is_without(text, &cut, dialect, handlers).then_some(cut)
}

/// Takes a block out if it stands there as it was written.
pub(super) fn cut_text(text: &str, block: &str) -> Option<String> {
    let at = text.find(block).filter(|_| !block.is_empty())?;
    let (before, after) = (&text[..at], &text[at + block.len()..]);
    // The file had no newline at its end, and something was written below ours since.
    let joins_lines = !before.is_empty() && !before.ends_with('\n') && !after.is_empty() && block.ends_with('\n');
    Some(format!("{before}{}{after}", if joins_lines { newline(text) } else { "" }))
}

/// Takes handlers out by their keys, however they are written. Handlers that are not there are no error.
///
/// # Errors
/// If the file is not TOML, or writes them in a way that cannot be cut.
pub fn remove(text: &str, dialect: Dialect, handlers: &[String]) -> Result<String, EditError> {
    let outline = Outline::of(text).map_err(|error| EditError::NotToml(error.message().to_owned()))?;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for handler in handlers {
        let path = owned(dialect.runtimes(), handler);
        for place in outline.places.iter().filter(|place| place.path.starts_with(&path)) {
            match &place.form {
                Form::Header(range) => ranges.push(header_lines(text, range)),
                Form::Pair(range) => ranges.push(lines(text, range)),
                Form::Inline(range) => ranges.push(inline_entry(text, range)),
                Form::Braces { .. } => {}
            }
        }
    }
    let cut = without(text, ranges);
    if is_without(text, &cut, dialect, handlers) { Ok(cut) } else { Err(layout(dialect)) }
}

/// Whether two texts say the same.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    matches!((as_json(one), as_json(other)), (Ok(one), Ok(other)) if one == other)
}

/// The line ending that a text uses.
#[must_use]
pub fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// The innermost inline table on the way to the handlers: how many keys lead to it, where, whether empty.
fn inline_parent(outline: &Outline, dialect: Dialect) -> Option<(usize, Range<usize>, bool)> {
    let runtimes = dialect.runtimes();
    outline
        .places
        .iter()
        .filter(|place| runtimes.iter().take(place.path.len()).eq(place.path.iter()))
        .filter_map(|place| match &place.form {
            Form::Braces { range, empty } => Some((place.path.len(), range.clone(), *empty)),
            _ => None,
        })
        .max_by_key(|(depth, ..)| *depth)
}

fn inline_insertion(
    text: &str,
    dialect: Dialect,
    entries: &[Entry],
    depth: usize,
    braces: Range<usize>,
    empty: bool,
) -> (usize, String) {
    let pairs: Vec<String> = entries.iter().map(Entry::to_inline).collect();
    let mut pairs = pairs.join(", ");
    for name in dialect.runtimes()[depth..].iter().rev() {
        pairs = format!("{} = {{ {pairs} }}", shown(&[*name]));
    }
    let inside = &text[braces.start + 1..braces.end - 1];
    let at = braces.start + 1 + inside.trim_end().len();
    if empty {
        (at, format!(" {pairs}{}", if inside.is_empty() { " " } else { "" }))
    } else {
        (at, format!(", {pairs}"))
    }
}

pub(super) fn appended_block(text: &str, dialect: Dialect, entries: &[Entry]) -> String {
    let newline = newline(text);
    let mut block = String::new();
    if !text.trim_start_matches('\u{feff}').is_empty() {
        if !text.ends_with('\n') {
            block.push_str(newline);
        }
        block.push_str(newline);
    }
    block.push_str(MARK);
    block.push_str(newline);
    for entry in entries {
        block.push_str(&entry.to_tables(dialect.runtimes(), newline));
    }
    block
}

/// The lines of a table's header, with our mark above it or runtime-class-manager's.
fn header_lines(text: &str, header: &Range<usize>) -> Range<usize> {
    let mut range = lines(text, header);
    let above = text[..range.start].strip_suffix('\n').map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
    let line = text[above..range.start].trim();
    if line == MARK || line.starts_with(RCM_MARK) {
        range.start = above;
    }
    range
}

/// The whole lines that a range touches.
fn lines(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = text[..range.start].rfind('\n').map_or_else(|| bom(text), |at| at + 1);
    let end = text[range.end..].find('\n').map_or(text.len(), |at| range.end + at + 1);
    start..end
}

/// The length of a byte order mark.
fn bom(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

/// An entry of an inline table with one of the commas around it.
fn inline_entry(text: &str, range: &Range<usize>) -> Range<usize> {
    let opening = text[..range.start].rfind(['{', ',']).unwrap_or(range.start);
    if text[opening..].starts_with(',') {
        return opening..range.end;
    }
    let rest = &text[range.end..];
    let comma = rest.trim_start().starts_with(',').then(|| rest.find(',')).flatten();
    opening + 1..comma.map_or(range.end, |at| range.end + at + 1)
}

pub(super) fn without(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut kept = String::new();
    let mut from = 0;
    for range in ranges {
        if range.start > from {
            kept.push_str(&text[from..range.start]);
        }
        from = from.max(range.end);
    }
    kept.push_str(&text[from..]);
    kept
}

/// Whether `cut` says what `text` says, except for the handlers.
fn is_without(text: &str, cut: &str, dialect: Dialect, handlers: &[String]) -> bool {
    let (Ok(mut meant), Ok(mut is)) = (as_json(text), as_json(cut)) else { return false };
    let path = dialect.runtimes();
    for handler in handlers {
        if let Some(Json::Object(runtimes)) = at(&mut meant, path) {
            runtimes.remove(handler);
        }
    }
    // Tables that were there only because a handler stood in them are gone with it.
    for depth in (1..=path.len()).rev() {
        prune(&mut meant, &path[..depth]);
        prune(&mut is, &path[..depth]);
    }
    meant == is
}

fn prune(value: &mut Json, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    if let Some(Json::Object(parent)) = at(value, parents)
        && parent.get(*last).is_some_and(|table| table.as_object().is_some_and(Map::is_empty))
    {
        parent.remove(*last);
    }
}

fn at<'a>(value: &'a mut Json, path: &[&str]) -> Option<&'a mut Json> {
    path.iter().try_fold(value, |value, name| value.get_mut(*name))
}

fn put(value: &mut Json, path: &[&str], entry: &Entry) {
    let mut table = value;
    for name in path {
        let Json::Object(map) = table else { return };
        table = map.entry(*name).or_insert_with(|| Json::Object(Map::new()));
    }
    if let Json::Object(map) = table {
        map.insert(entry.handler.clone(), Json::Object(entry.table.clone()));
    }
}

fn parsed(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| EditError::NotToml(error.message().to_owned()))
}

fn as_json(text: &str) -> Result<Json, EditError> {
    let document = Document::parse(text).map_err(|error| EditError::NotToml(error.message().to_owned()))?;
    Ok(json(document.as_item()))
}

fn layout(dialect: Dialect) -> EditError {
    EditError::Layout { table: shown(dialect.runtimes()) }
}

fn owned(path: &[&str], last: &str) -> Vec<String> {
    path.iter().map(|name| (*name).to_owned()).chain([last.to_owned()]).collect()
}

#[cfg(test)]
#[path = "edit/tests.rs"]
mod tests;
