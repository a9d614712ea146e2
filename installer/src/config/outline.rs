//! Where in a TOML text each table and each value stands: toml_edit's parser with the places it saw.

use std::ops::Range;

use toml_edit::{Document, InlineTable, Item, Key, Table, Value};

/// One place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What stands there.
    pub form: Form,
}

/// What a [`Place`] is. Offsets are bytes of the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `[a.b]` or `[[a.b]]`, from bracket to bracket.
    Header(Range<usize>),
    /// `key = value` on lines of its own, from the (last) key to the end of the value.
    Pair(Range<usize>),
    /// `key = value` in an inline table, from the (last) key to the end of the value.
    Inline(Range<usize>),
    /// An inline table, from brace to brace, in addition to the place of its pair.
    Braces {
        /// From brace to brace.
        range: Range<usize>,
        /// Whether it has no entry.
        empty: bool,
    },
}

/// All places of a text, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The places.
    pub places: Vec<Place>,
}

impl Outline {
    /// Reads the places of a text.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn of(text: &str) -> Result<Self, toml_edit::TomlError> {
        let document = Document::parse(text)?;
        let mut outline = Self::default();
        outline.table(&[], document.as_table());
        outline.places.sort_by_key(|place| place.form.range().start);
        Ok(outline)
    }

    /// Whether anything stands at `path` or below.
    #[must_use]
    pub fn holds(&self, path: &[String]) -> bool {
        self.places.iter().any(|place| place.path.starts_with(path))
    }

    fn table(&mut self, path: &[String], table: &Table) {
        for (name, item) in table {
            let path = joined(path, name);
            match item {
                Item::None => {}
                Item::Value(value) => self.pair(&path, table.key(name), value, Form::Pair),
                Item::Table(inner) => {
                    if let (Some(span), false) = (inner.span(), inner.is_implicit() || inner.is_dotted()) {
                        self.push(&path, Form::Header(span));
                    }
                    self.table(&path, inner);
                }
                Item::ArrayOfTables(tables) => {
                    for inner in tables {
                        if let Some(span) = inner.span() {
                            self.push(&path, Form::Header(span));
                        }
                        self.table(&path, inner);
                    }
                }
            }
        }
    }

    fn inline(&mut self, path: &[String], table: &InlineTable) {
        for (name, value) in table {
            self.pair(&joined(path, name), table.key(name), value, Form::Inline);
        }
    }

    fn pair(&mut self, path: &[String], key: Option<&Key>, value: &Value, form: fn(Range<usize>) -> Form) {
        if let (Value::InlineTable(inner), true) = (value, is_dotted(value)) {
            return self.inline(path, inner);
        }
        let Some(span) = value.span() else { return };
        if let Some(key) = key.and_then(Key::span) {
            self.push(path, form(key.start..span.end));
        }
        if let Value::InlineTable(inner) = value {
            self.push(path, Form::Braces { range: span, empty: inner.is_empty() });
            self.inline(path, inner);
        }
    }

    fn push(&mut self, path: &[String], form: Form) {
        self.places.push(Place { path: path.to_vec(), form });
    }
}

/// Whether an inline table stands for a dotted key (`a.b = 1`) inside of another.
fn is_dotted(value: &Value) -> bool {
    value.as_inline_table().is_some_and(InlineTable::is_dotted)
}

fn joined(path: &[String], name: &str) -> Vec<String> {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

impl Form {
    /// Its bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Header(range) | Self::Pair(range) | Self::Inline(range) | Self::Braces { range, .. } => range.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let outline = Outline::of(text).unwrap();
        outline.places.iter().map(|place| format!("{}: {}", place.path.join("/"), &text[place.form.range()])).collect()
    }

    #[test]
    fn tables_pairs_and_dotted_keys_are_found_where_they_stand() {
        let text = "\u{feff}version = 2\r\n[a.\"b.c\"] # x\r\n d.e = 1\r\n[[t]]\r\n[a.z]\r\n";
        assert_eq!(
            shown(text),
            ["version: version = 2", "a/b.c: [a.\"b.c\"]", "a/b.c/d/e: e = 1", "t: [[t]]", "a/z: [a.z]"]
        );
    }

    #[test]
    fn inline_tables_show_their_braces_and_their_entries() {
        let text = "a = { b = {}, c.d = 1 }";
        assert_eq!(
            shown(text),
            ["a: a = { b = {}, c.d = 1 }", "a: { b = {}, c.d = 1 }", "a/b: b = {}", "a/b: {}", "a/c/d: d = 1"]
        );
    }

    #[test]
    fn what_looks_like_a_header_inside_a_string_is_none() {
        assert_eq!(shown("a = '''\n[b]\n'''\n"), ["a: a = '''\n[b]\n'''"]);
    }
}
