//! How CRI-O reads its configuration, and how it prints what it made of it (`pkg/config` of CRI-O 1.33).

use std::path::Path;
use std::process::Command;

use kwasm_installer::host::Files;
use kwasm_installer::host::system::SystemError;
use serde_json::{Map, Value as Json, json};

use crate::loading::{self, Loaded, merge, parse, read, refused, rest};

/// The handler that is there when no file says anything, and the default.
const BUILT_IN: &str = "crun";

/// Handlers are replaced as a whole by a later file, everything else key by key.
const DOWN_TO_HANDLERS: usize = 4;

/// As `crio config --default` prints it.
pub(crate) fn defaults() -> String {
    printed(built_in(), json!({}))
}

/// As `crio config` prints what it made of its file and its folder: without what is as by default. Whether a
/// handler can be started is not asked.
pub(crate) fn config(files: &Files, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
    let mut values = json!({"crio": {"runtime": {"runtimes": built_in()}}});
    let drop_ins = all_below(files, folder);
    for path in main.iter().copied().chain(drop_ins.iter().map(AsRef::as_ref)) {
        merge(&mut values, parse(&read(files, path))?, DOWN_TO_HANDLERS);
    }
    let handlers = values.pointer_mut("/crio/runtime/runtimes").map(Json::take);
    let Some(Json::Object(handlers)) = handlers else { return Err(refused("no table of runtimes".to_owned())) };
    let default = values.pointer("/crio/runtime/default_runtime").and_then(Json::as_str).unwrap_or(BUILT_IN);
    if !handlers.contains_key(default) {
        return Err(refused(format!("default_runtime set to {default:?}, but no runtime entry table was found")));
    }
    let shown = if handlers == built_in() { Map::new() } else { handlers };
    Ok(printed(shown, rest(values)))
}

/// What a real CRI-O prints for files of the tree. It checks what they say, but looks at no path that they name: that
/// it does when it starts.
pub(crate) fn ask(files: &Files, crio: &Path, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
    let main = main.map(|main| files.locate(&files.follow(main))).unwrap_or_default();
    let mut command = Command::new(crio);
    command.arg("--config").arg(main).arg("--config-dir").arg(files.locate(&files.follow(folder)));
    loading::printed(command.arg("config"))
}

/// What a real CRI-O prints where no file says anything.
pub(crate) fn ask_defaults(crio: &Path) -> Result<String, SystemError> {
    loading::printed(Command::new(crio).args(["--config", "", "--config-dir", "", "config", "--default"]))
}

/// The handlers that CRI-O serves once it has started: it ignores those whose binary is not there.
pub(crate) fn served(files: &Files, handlers: Map<String, Json>) -> Map<String, Json> {
    let there = |path: &Path| files.metadata(path).is_some_and(|file| file.is_file());
    let starts = |name: &String, table: &Json| {
        let path = table["runtime_path"].as_str().unwrap_or_default();
        let is_shim = path.contains("containerd-shim-") && path.ends_with("-v2");
        let found = match path {
            "" => ["/usr/local/bin", "/usr/bin"].iter().any(|folder| there(&Path::new(folder).join(name))),
            path => there(Path::new(path)),
        };
        found && (table["runtime_type"] != "vm" || is_shim)
    };
    handlers.into_iter().filter(|(name, table)| starts(name, table)).collect()
}

fn built_in() -> Map<String, Json> {
    let table = json!({"runtime_path": "", "runtime_type": "oci", "runtime_root": "/run/crun"});
    Map::from_iter([(BUILT_IN.to_owned(), table)])
}

fn printed(handlers: Map<String, Json>, rest: Json) -> String {
    Loaded { parents: &["crio", "runtime", "runtimes"], version: None, handlers, rest }.dump()
}

/// Every file of a folder, hidden ones and those of folders in it as well, in the order of their names.
fn all_below(files: &Files, folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = files.names(folder).into_iter().map(|name| folder.join(name));
    paths
        .flat_map(|path| match files.link_metadata(&path) {
            Some(entry) if entry.is_dir() => all_below(files, &path),
            _ => vec![path],
        })
        .collect()
}
