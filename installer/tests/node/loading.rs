//! How daemons read their configuration: imports, merging, and what is built in.

use std::path::{Path, PathBuf};
use std::process::Command;

use kwasm_installer::config::entry::json;
use kwasm_installer::config::{Entry, imports};
use kwasm_installer::host::Files;
use kwasm_installer::host::files::{Attributes, temporary};
use kwasm_installer::host::system::SystemError;
use serde_json::{Map, Value as Json, json};
use toml_edit::{Document, DocumentMut};

/// What a daemon made of its files.
pub(crate) struct Loaded {
    pub(crate) parents: &'static [&'static str],
    pub(crate) version: Option<i64>,
    pub(crate) handlers: Map<String, Json>,
    pub(crate) rest: Json,
}

impl Loaded {
    /// As the daemon prints it, what does not matter here being one string.
    pub(crate) fn dump(self) -> String {
        let mut document = DocumentMut::new();
        match self.version {
            Some(version) => document["version"] = toml_edit::value(version),
            None => document["crio"] = toml_edit::table(),
        }
        document["rest"] = toml_edit::value(self.rest.to_string());
        if let Some(disabled) = self.rest.get("disabled_plugins").and_then(Json::as_array) {
            let names: toml_edit::Array = disabled.iter().filter_map(Json::as_str).collect();
            document["disabled_plugins"] = toml_edit::value(names);
        }
        let mut text = document.to_string();
        for (handler, table) in self.handlers {
            let table = table.as_object().cloned().unwrap_or_default();
            text.push_str(&Entry { handler, table }.to_tables(self.parents, "\n"));
        }
        text
    }
}

/// What containerd of this version would make of a file, or of none.
pub(crate) fn load(files: &Files, version: &str, file: Option<&Path>) -> Result<Loaded, SystemError> {
    let major: u32 = version.split('.').next().unwrap().parse().unwrap_or(0);
    let mut values = file.map_or_else(|| Ok(json!({})), |file| with_imports(files, file, major))?;
    let format = values.get("version").and_then(Json::as_i64).unwrap_or(0);
    let sections: &[&str] = match (format, major) {
        (0 | 1, 1) => &["cri"],
        (2, _) => &["io.containerd.grpc.v1.cri"],
        (3, 1) => &[],
        (_, _) => &["io.containerd.cri.v1.runtime"],
    };
    let runc =
        json!({"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": false}, "pod_annotations": []});
    let mut handlers = Map::new();
    for section in sections {
        let place = format!("/plugins/{section}/containerd/runtimes");
        if let Some(Json::Object(found)) = values.pointer_mut(&place).map(Json::take) {
            handlers.extend(found);
        }
    }
    if handlers.is_empty() || major >= 2 {
        handlers.entry("runc").or_insert(runc);
    }
    let (version, parents): (_, &[&str]) = if major >= 2 {
        (3, &["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"])
    } else {
        (2, &["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"])
    };
    Ok(Loaded { parents, version: Some(version), handlers, rest: rest(values) })
}

fn with_imports(files: &Files, file: &Path, major: u32) -> Result<Json, SystemError> {
    let text = read(files, file);
    let mut values = parse(&text)?;
    for import in imports(&text).iter().map(|import| file.parent().unwrap().join(import)) {
        for path in globbed(files, &import)? {
            let imported = parse(&read(files, &path))?;
            let newer = |values: &Json| values.get("version").and_then(Json::as_i64).unwrap_or(0);
            if major >= 2 && newer(&imported) != newer(&values) {
                return Err(refused(format!("{} is of another version", path.display())));
            }
            // containerd 1.x replaces a plugin's whole section, 2.x merges.
            merge(&mut values, imported, if major >= 2 { usize::MAX } else { 2 });
        }
    }
    Ok(values)
}

fn globbed(files: &Files, pattern: &Path) -> Result<Vec<PathBuf>, SystemError> {
    let (folder, name) = (pattern.parent().unwrap(), pattern.file_name().unwrap().to_str().unwrap());
    match name.split_once('*') {
        Some((start, end)) => {
            let names = files.names(folder).into_iter();
            let matching =
                names.filter(|name| !name.starts_with('.') && name.starts_with(start) && name.ends_with(end));
            Ok(matching.map(|name| folder.join(name)).collect())
        }
        None if files.metadata(pattern).is_some() => Ok(vec![pattern.to_owned()]),
        None => Err(refused(format!("open {}: no such file", pattern.display()))),
    }
}

/// What k0s makes of its own configuration of CRI and of the drop-ins that concern CRI.
pub(crate) fn merged(files: &Files, built_in: &str, folder: &Path) -> String {
    let mut document: DocumentMut = built_in.parse().unwrap();
    for path in globbed(files, &folder.join("*.toml")).unwrap() {
        let drop_in: DocumentMut = read(files, &path).parse().unwrap();
        merge_tables(document.as_table_mut(), drop_in.as_table());
    }
    document.to_string()
}

fn merge_tables(table: &mut dyn toml_edit::TableLike, other: &dyn toml_edit::TableLike) {
    for (name, item) in other.iter() {
        match (table.get_mut(name).and_then(toml_edit::Item::as_table_like_mut), item.as_table_like()) {
            (Some(inner), Some(other)) => merge_tables(inner, other),
            _ => drop(table.insert(name, item.clone())),
        }
    }
}

/// What a real containerd prints for a file of the tree, or without one. Absolute imports lead into the tree.
pub(crate) fn ask(files: &Files, root: &Path, containerd: &Path, file: Option<&Path>) -> Result<String, SystemError> {
    let file = file.map(|file| files.follow(file)).filter(|file| files.metadata(file).is_some());
    let copy = file.as_deref().map(temporary).map(|copy| copy.with_extension("asked"));
    let mut command = Command::new(containerd);
    match (&file, &copy) {
        (Some(file), Some(copy)) => {
            let text = inside(&read(files, file), root, file);
            files.write_new(copy, Attributes::PRIVATE, &mut text.as_bytes()).unwrap();
            command.arg("--config").arg(files.locate(copy)).args(["config", "dump"])
        }
        _ => command.args(["config", "default"]),
    };
    let printed = printed(&mut command);
    copy.iter().for_each(|copy| files.remove(copy).unwrap());
    printed
}

/// What a command prints.
pub(crate) fn printed(command: &mut Command) -> Result<String, SystemError> {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = SystemError::Command { command: format!("{command:?}"), words };
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap()).ok_or(refused)
}

/// A text whose absolute imports lead into the tree. One that is not TOML stays as it is.
fn inside(text: &str, root: &Path, file: &Path) -> String {
    let paths = imports(text);
    let Ok(mut document) = text.parse::<DocumentMut>() else { return text.to_owned() };
    if paths.iter().all(|path| !path.starts_with('/')) {
        return text.to_owned();
    }
    let inside = |path: &String| root.join(file.parent().unwrap().join(path).strip_prefix("/").unwrap());
    let paths: toml_edit::Array = paths.iter().map(|path| inside(path).display().to_string()).collect();
    document["imports"] = toml_edit::value(paths);
    document.to_string()
}

pub(crate) fn read(files: &Files, path: &Path) -> String {
    String::from_utf8(files.read(path).unwrap().unwrap_or_default()).unwrap()
}

pub(crate) fn parse(text: &str) -> Result<Json, SystemError> {
    let document = Document::parse(text.to_owned()).map_err(|error| refused(error.message().to_owned()))?;
    Ok(json(document.as_item()))
}

pub(crate) fn refused(words: String) -> SystemError {
    SystemError::Command { command: "containerd config dump".into(), words }
}

/// Puts one table's values into another's, down to a depth below which tables are replaced.
pub(crate) fn merge(into: &mut Json, from: Json, depth: usize) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) if depth > 0 => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Json::Null), value, depth - 1);
            }
        }
        (into, from) => *into = from,
    }
}

/// What is no handler, without what is empty: tables that only lead to handlers.
pub(crate) fn rest(mut values: Json) -> Json {
    prune(&mut values);
    if let Json::Object(top) = &mut values {
        top.remove("version");
        top.remove("imports");
    }
    values
}

fn prune(value: &mut Json) {
    if let Json::Object(table) = value {
        table.values_mut().for_each(prune);
        table.retain(|_, value| !value.is_null() && !value.as_object().is_some_and(Map::is_empty));
    }
}
