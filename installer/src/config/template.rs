//! Handlers in a Go template of k3s or RKE2, which is no TOML before it is rendered: what is added is one
//! block at the end, and what goes is that block, or the tables whose headers name a handler.

use std::ops::Range;

use serde_json::{Map, Value as Json};
use toml_edit::{Document, Key};

use super::edit::{Edited, MARK, appended_block, cut_text, lookup_json, without};
use super::{Dialect, Entry};

/// A template that is the built-in one.
pub const BASE: &str = "{{ template \"base\" . }}\n";

/// Adds handlers at the end of a template.
#[must_use]
pub fn add(text: &str, dialect: Dialect, entries: &[Entry]) -> Edited {
    let block = appended_block(text, dialect, entries);
    Edited { text: format!("{text}{block}"), block }
}

/// Takes handlers out: the block as it was written, or else their tables wherever they stand.
#[must_use]
pub fn cut(text: &str, dialect: Dialect, block: &str, handlers: &[String]) -> String {
    let follows = text.find(block).map_or("", |at| &text[at + block.len()..]);
    // A key below the block belongs to the block's last table, and would belong to another without it.
    let orphans = follows.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let whole = orphans.is_none_or(|line| line.starts_with('[') || line.contains("{{"));
    let cut = cut_text(text, block).filter(|_| whole);
    cut.unwrap_or_else(|| remove(text, dialect, handlers))
}

/// Takes out the tables of handlers.
#[must_use]
pub fn remove(text: &str, dialect: Dialect, handlers: &[String]) -> String {
    let ours = |table: &Place| table.handler(dialect).is_some_and(|name| handlers.iter().any(|known| known == name));
    let ranges = tables(text).into_iter().filter(ours).map(|table| table.range);
    without(text, ranges.collect())
}

/// The handlers whose tables stand in a template, as far as they are TOML.
#[must_use]
pub fn handlers(text: &str, dialect: Dialect) -> Map<String, Json> {
    let mut toml = String::new();
    for table in tables(text).iter().filter(|table| table.handler(dialect).is_some()) {
        let longer = format!("{toml}{}\n", &text[table.range.clone()]);
        if Document::parse(longer.as_str()).is_ok() {
            toml = longer;
        }
    }
    lookup_json(&toml, dialect.runtimes())
}

/// The handlers whose tables are rendered whatever holds: no `{{ if … }}` or the like is around them.
#[must_use]
pub fn unconditional(text: &str, dialect: Dialect) -> Vec<String> {
    let tables = tables(text);
    let certain = tables.iter().filter(|table| !table.conditional);
    certain.filter_map(|table| table.handler(dialect).map(str::to_owned)).collect()
}

/// A table with its header.
struct Place {
    keys: Vec<String>,
    range: Range<usize>,
    conditional: bool,
}

impl Place {
    /// The handler that it belongs to.
    fn handler(&self, dialect: Dialect) -> Option<&str> {
        let parents = dialect.runtimes();
        let below = self.keys.len() > parents.len() && self.keys.iter().zip(parents).all(|(key, name)| key == name);
        below.then(|| self.keys[parents.len()].as_str())
    }
}

/// The tables of a template: each from its header, with our mark above it, to its last line with a value.
fn tables(text: &str) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    let mut at = 0;
    let mut mark = None;
    let mut open = false;
    let mut blocks = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let content = line.trim();
        if content.contains("{{") {
            blocks += blocks_opened(content);
            open = false;
        } else if let Some(keys) = header(content) {
            found.push(Place { keys, range: mark.unwrap_or(start)..end, conditional: blocks > 0 });
            open = true;
        } else if let (true, false, Some(table)) =
            (open, content.is_empty() || content.starts_with('#'), found.last_mut())
        {
            table.range.end = end;
        }
        mark = (content == MARK).then_some(start);
    }
    found
}

/// How many actions of a line open a block, less those that end one.
fn blocks_opened(line: &str) -> i32 {
    let actions = line.split("{{").skip(1).map(|action| action.trim_start_matches('-').trim_start());
    let keywords = actions.map(|action| action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default());
    keywords
        .map(|keyword| match keyword {
            "if" | "range" | "with" | "block" | "define" => 1,
            "end" => -1,
            _ => 0,
        })
        .sum()
}

/// The keys of a line that is a table's header.
fn header(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('[')?;
    let inner = inner.split_once(" #").map_or(inner, |(header, _)| header);
    let keys = Key::parse(inner.trim_end().strip_suffix(']')?).ok()?;
    Some(keys.iter().map(|key| key.get().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "{{ template \"base\" . }}\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'gvisor']\n  runtime_type = \"io.containerd.runsc.v1\"\n{{ if .SystemdCgroup }}\n# more\n{{ end }}\n";

    fn wasmtime() -> Entry {
        Entry::shim("wasmtime", "/opt/kwasm/bin/containerd-shim-wasmtime-v1")
    }

    #[test]
    fn a_block_at_the_end_can_be_cut_out_to_the_byte() {
        for text in [BASE, USERS, USERS.trim_end(), ""] {
            let edited = add(text, Dialect::V3, &[wasmtime()]);
            assert!(edited.text.starts_with(text));
            assert_eq!(cut(&edited.text, Dialect::V3, &edited.block, &["wasmtime".into()]), text);
        }
    }

    #[test]
    fn a_block_that_somebody_edited_is_taken_out_by_its_headers() {
        let edited = add(USERS, Dialect::V3, &[wasmtime(), Entry::oci("crun", "/usr/bin/crun")]);
        let later = edited.text.replace("crun\"\n", "crun\"\n  # by hand\n  a = 1\n");
        let cut = cut(&later, Dialect::V3, &edited.block, &["wasmtime".into(), "crun".into()]);
        assert_eq!(cut, format!("{USERS}\n"));
    }

    #[test]
    fn a_handler_that_an_action_names_or_decides_about_need_not_be_rendered() {
        let runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
        let text = format!(
            "[{runtimes}.a]\n{{{{- if .X }}}}\n[{runtimes}.b]\n{{{{ with .Y }}}}{{{{ end }}}}\n[{runtimes}.c]\n{{{{ end -}}}}\n\
             {{{{ range .Z }}}}\n[{runtimes}.\"{{{{ . }}}}\"]\n{{{{ end }}}}\n[{runtimes}.d]\n"
        );
        assert_eq!(unconditional(&text, Dialect::V3), ["a", "d"]);
        assert_eq!(handlers(&text, Dialect::V3).keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_handlers_of_a_template_are_found_between_its_actions() {
        let edited = add(USERS, Dialect::V3, &[wasmtime()]);
        let found = handlers(&edited.text, Dialect::V3);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["gvisor", "wasmtime"]);
        assert_eq!(found["wasmtime"]["runtime_type"], "/opt/kwasm/bin/containerd-shim-wasmtime-v1");
    }
}
