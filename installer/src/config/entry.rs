//! One handler's table, as values and as TOML text.

use std::fmt::Write as _;

use kwasm_api::runtime::OptionValue;
use serde_json::{Map, Value as Json};
use toml_edit::{Item, Key, Value as Toml};

/// A handler and the content of its table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The table's name.
    pub handler: String,
    /// Its content.
    pub table: Map<String, Json>,
}

impl Entry {
    /// A binary that speaks the shim protocol, by its absolute path.
    #[must_use]
    pub fn shim(handler: &str, path: &str) -> Self {
        Self { handler: handler.to_owned(), table: Map::from_iter([("runtime_type".to_owned(), path.into())]) }
    }

    /// A binary with runc's command line.
    #[must_use]
    pub fn oci(handler: &str, path: &str) -> Self {
        let options = Map::from_iter([("BinaryName".to_owned(), Json::from(path))]);
        let table = Map::from_iter([
            ("options".to_owned(), Json::Object(options)),
            ("runtime_type".to_owned(), "io.containerd.runc.v2".into()),
        ]);
        Self { handler: handler.to_owned(), table }
    }

    /// As CRI-O starts a binary that speaks the shim protocol.
    #[must_use]
    pub fn crio_shim(handler: &str, path: &str) -> Self {
        Self::crio(handler, path, "vm")
    }

    /// As CRI-O starts a binary with runc's command line.
    #[must_use]
    pub fn crio_oci(handler: &str, path: &str) -> Self {
        Self::crio(handler, path, "oci")
    }

    fn crio(handler: &str, path: &str, runtime_type: &str) -> Self {
        let table = [("runtime_path", path), ("runtime_type", runtime_type)];
        let table = table.map(|(name, value)| (name.to_owned(), Json::from(value)));
        Self { handler: handler.to_owned(), table: Map::from_iter(table) }
    }

    /// The entry with one more key of its own table.
    #[must_use]
    pub fn with_key(mut self, name: &str, value: &OptionValue) -> Self {
        // Serialising cannot fail: booleans, integers and strings.
        self.table.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// The entry with one more option.
    #[must_use]
    pub fn with_option(mut self, name: &str, value: &OptionValue) -> Self {
        let options = self.table.entry("options").or_insert_with(|| Json::Object(Map::new()));
        if let Json::Object(options) = options {
            // Serialising cannot fail: booleans, integers and strings.
            options.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        }
        self
    }

    /// The entry with the pod annotations that containerd hands to the runtime.
    #[must_use]
    pub fn with_pod_annotations(mut self, annotations: &[String]) -> Self {
        if !annotations.is_empty() {
            self.table.insert("pod_annotations".to_owned(), annotations.into());
        }
        self
    }

    /// The value of `runtime_type`.
    #[must_use]
    pub fn runtime_type(&self) -> &str {
        self.table.get("runtime_type").and_then(Json::as_str).unwrap_or_default()
    }

    /// Whether a table of the effective configuration has all that this entry asks for; containerd fills in
    /// what was left out.
    #[must_use]
    pub fn is_in(&self, effective: &Json) -> bool {
        contains(effective, &Json::Object(self.table.clone()))
    }

    /// The entry as tables under `parent`, each line ended by `newline`.
    #[must_use]
    pub fn to_tables(&self, parent: &[&str], newline: &str) -> String {
        let mut text = String::new();
        let path: Vec<&str> = parent.iter().copied().chain([self.handler.as_str()]).collect();
        write_table(&mut text, &path, &self.table, newline);
        text
    }

    /// The entry as `name = { … }` for an inline table.
    #[must_use]
    pub fn to_inline(&self) -> String {
        format!("{} = {}", key(&self.handler), inline(&Json::Object(self.table.clone())))
    }
}

fn contains(outer: &Json, inner: &Json) -> bool {
    match (outer, inner) {
        (Json::Object(outer), Json::Object(inner)) => {
            inner.iter().all(|(name, value)| outer.get(name).is_some_and(|outer| contains(outer, value)))
        }
        (outer, inner) => outer == inner,
    }
}

fn write_table(text: &mut String, path: &[&str], table: &Map<String, Json>, newline: &str) {
    let header: Vec<String> = path.iter().map(|name| key(name)).collect();
    // Writing to a String cannot fail.
    let _ = write!(text, "[{}]{newline}", header.join("."));
    for (name, value) in table.iter().filter(|(_, value)| !value.is_object()) {
        let _ = write!(text, "{} = {}{newline}", key(name), inline(value));
    }
    for (name, value) in table {
        if let Json::Object(inner) = value {
            let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            write_table(text, &path, inner, newline);
        }
    }
}

/// A key, quoted where it must be: in basic quotes, as containerd's own `config default` writes it.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { string(name) }
}

/// A basic string; control characters are escaped, and so is what a Go template (k3s) or the start script of
/// MicroK8s would replace.
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' if rest.peek() == Some(&'{') => quoted.push_str("\\u007B"),
            '$' if rest.peek() == Some(&'{') => quoted.push_str("\\u0024"),
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn inline(value: &Json) -> String {
    match value {
        Json::Null => "\"\"".to_owned(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::String(text) => string(text),
        Json::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Object(table) if table.is_empty() => "{}".to_owned(),
        Json::Object(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// The value of a TOML item; dates are kept as their text.
#[must_use]
pub fn json(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => json_value(value),
        Item::Table(table) => table.iter().map(|(name, item)| (name.to_owned(), json(item))).collect(),
        Item::ArrayOfTables(tables) => tables
            .iter()
            .map(|table| table.iter().map(|(name, item)| (name.to_owned(), json(item))).collect::<Json>())
            .collect(),
    }
}

fn json_value(value: &Toml) -> Json {
    match value {
        Toml::String(text) => Json::String(text.value().clone()),
        Toml::Integer(number) => Json::from(*number.value()),
        Toml::Float(number) => Json::from(*number.value()),
        Toml::Boolean(truth) => Json::Bool(*truth.value()),
        Toml::Datetime(date) => Json::String(date.value().to_string()),
        Toml::Array(values) => values.iter().map(json_value).collect(),
        Toml::InlineTable(table) => table.iter().map(|(name, value)| (name.to_owned(), json_value(value))).collect(),
    }
}

/// The item that a path of keys leads to.
#[must_use]
pub fn lookup<'a>(table: &'a toml_edit::Table, path: &[&str]) -> Option<&'a Item> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(first)?, |item, name| item.get(name))
}

/// Whether a name can be a key as it is; kept so that names in messages look as in the file.
#[must_use]
pub fn shown(path: &[&str]) -> String {
    path.iter().map(|name| Key::new(*name).to_string()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oci_runtime_is_written_as_runc_with_another_binary() {
        let entry = Entry::oci("crun", "/usr/bin/crun").with_pod_annotations(&["module.wasm.image/variant".to_owned()]);
        assert_eq!(
            entry.to_tables(&["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"], "\n"),
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\n\
             pod_annotations = [\"module.wasm.image/variant\"]\n\
             runtime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun.options]\n\
             BinaryName = \"/usr/bin/crun\"\n"
        );
    }

    #[test]
    fn nothing_in_a_value_is_left_for_a_template_to_replace() {
        let text = Entry::shim("w", "/w/{{{x}}/${SNAP}/$x{").to_inline();
        assert!(!text.contains("{{") && !text.contains("${"), "{text}");
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(document["w"]["runtime_type"].as_str(), Some("/w/{{{x}}/${SNAP}/$x{"));
    }

    #[test]
    fn options_keep_their_types() {
        let entry = Entry::shim("w", "/w")
            .with_option("A", &OptionValue::Boolean(true))
            .with_option("B", &OptionValue::Integer(-3))
            .with_option("C", &OptionValue::String("a\"\\\n".into()))
            .with_option("D", &OptionValue::Strings(vec!["x".into()]));
        let text = entry.to_inline();
        assert_eq!(
            text,
            r#"w = { options = { A = true, B = -3, C = "a\"\\\u000A", D = ["x"] }, runtime_type = "/w" }"#
        );
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        assert!(entry.is_in(&json(&document["w"])));
    }
}
