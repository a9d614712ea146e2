//! What the daemon makes of a configuration, and what it serves now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Array, DocumentMut};

use super::{Host, Observed};
use crate::config::dump::Dump;
use crate::config::imports;
use crate::failure::{Reason, Stop};
use crate::host::files::{Attributes, FileError, temporary};
use crate::host::system::CriStatus;
use crate::platform::{Form, Kind};

/// A configuration that the daemon can be asked about before it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loadable {
    /// No file at all.
    Defaults,
    /// One file with this text.
    File(String),
    /// The daemon's file, which imports a folder; with this file of ours in it, or without.
    Import {
        /// The daemon's file.
        root: String,
        /// Our file.
        drop_in: Option<String>,
    },
    /// CRI-O's folder of drop-ins; with this file of ours in it, or without.
    Crio {
        /// Our file.
        drop_in: Option<String>,
    },
}

/// What the daemon makes of a configuration, and what it serves now.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The configuration without us.
    pub dump: Dump,
    /// What CRI says now.
    pub cri: CriStatus,
    /// The socket of CRI.
    pub socket: String,
}

/// Files that are only there while the daemon is asked; `/run` forgets what a crash left.
const CANDIDATE: &str = "/run/.kwasm-candidate";
const CANDIDATE_DROP_IN: &str = "/run/.kwasm-candidate-drop-in";
const CANDIDATE_FOLDER: &str = "/run/.kwasm-candidate.d";

/// Finds out what the daemon makes of `base`, the configuration without us, and asks CRI.
///
/// # Errors
/// If the daemon refuses it, or CRI is switched off or does not answer although no transaction is unfinished.
pub fn effective(host: &Host, observed: &Observed, base: &Loadable) -> Result<Effective, Stop> {
    let platform = &observed.platform;
    if platform.layout.form == Form::ByName {
        return Ok(Effective::default());
    }
    let path = platform.layout.loaded.display();
    let step = format!("load {path} with {}", platform.kind.daemon());
    let dump = load(host, observed, base).map_err(|words| Stop::unchanged(step, Reason::ConfigNotLoadable, words))?;
    if dump.disables_cri() {
        let words = format!("the CRI plugin is disabled in {path}");
        return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words));
    }
    let socket = platform.daemon.address.clone().unwrap_or_else(|| dump.socket().to_owned());
    let cri = match ask_patiently(host, &socket) {
        Ok(cri) => cri,
        // Our own earlier run may have left it so: then this run mends it.
        Err(_) if observed.interrupted() => CriStatus::default(),
        Err(words) => return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words)),
    };
    if platform.kind == Kind::Crio && cri.ready && cri.handlers.is_empty() {
        let words = format!("CRI-O {} does not tell which handlers it serves", platform.daemon.version);
        return Err(Stop::unchanged("ask CRI", Reason::CrioTooOld, words));
    }
    Ok(Effective { dump, cri, socket })
}

/// What the daemon would make of a configuration.
///
/// # Errors
/// In the daemon's words, if it refuses it.
pub fn load(host: &Host, observed: &Observed, loadable: &Loadable) -> Result<Dump, String> {
    let layout = &observed.platform.layout;
    let program = &observed.platform.daemon.program;
    let dump = |file: Option<&Path>| host.system.config_dump(program, file).map_err(|error| error.to_string());
    // What a distribution renders, it may render anew at any moment.
    let current = observed.config.as_ref().filter(|_| observed.loaded.is_none());
    let printed = match loadable {
        Loadable::Defaults => dump(None),
        Loadable::File(text) if Some(text) == current => dump(Some(&layout.loaded)),
        Loadable::File(text) => {
            let beside = candidate_path(&layout.loaded, text);
            with_files(host, &[(&beside, text)], || dump(Some(&beside)))
        }
        Loadable::Import { root, drop_in } => {
            let root = importing(host, observed, root, drop_in.is_some())?;
            let mut files = vec![(Path::new(CANDIDATE), root.as_str())];
            files.extend(drop_in.as_ref().map(|text| (Path::new(CANDIDATE_DROP_IN), text.as_str())));
            with_files(host, &files, || dump(Some(Path::new(CANDIDATE))))
        }
        Loadable::Crio { drop_in } => with_crio_folder(host, observed, drop_in.as_deref()),
    };
    let daemon = observed.platform.kind.daemon();
    let parse =
        |text: String| Dump::parse(&text).map_err(|error| format!("{daemon} printed no TOML: {}", error.message()));
    let dump = parse(printed?)?;
    if !matches!(loadable, Loadable::Crio { .. }) {
        return Ok(dump);
    }
    let defaults = host.system.crio_defaults(program).map_err(|error| error.to_string())?;
    Ok(dump.completed(&parse(defaults)?))
}

fn with_files<T>(host: &Host, files: &[(&Path, &str)], ask: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let written = files.iter().try_for_each(|(path, text)| {
        host.files.write_new(path, Attributes::PRIVATE, &mut text.as_bytes()).map_err(|error| error.to_string())
    });
    let answer = written.and_then(|()| ask());
    let removed = files.iter().try_for_each(|(path, _)| host.files.remove(path));
    removed.map_err(|error: FileError| error.to_string())?;
    answer
}

/// The daemon's file with every file of the imported folder named, ours being another or none.
fn importing(host: &Host, observed: &Observed, root: &str, with_ours: bool) -> Result<String, String> {
    let layout = &observed.platform.layout;
    let (folder, ours) = (layout.path.parent().unwrap_or(Path::new("/")), layout.path.file_name());
    let base = layout.loaded.parent().unwrap_or(Path::new("/"));
    let mut paths: Vec<PathBuf> = Vec::new();
    for import in imports(root).iter().map(|import| base.join(import)) {
        if import != folder.join("*.toml") {
            paths.push(import);
            continue;
        }
        let others = host.files.names(folder).into_iter().map(|name| folder.join(name));
        paths.extend(others.filter(|path| path.extension() == Some("toml".as_ref()) && path.file_name() != ours));
        paths.extend(with_ours.then(|| CANDIDATE_DROP_IN.into()));
    }
    let mut document: DocumentMut = root.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let paths: Array = paths.iter().map(|path| path.display().to_string()).collect();
    document["imports"] = toml_edit::value(paths);
    Ok(document.to_string())
}

fn with_crio_folder(host: &Host, observed: &Observed, drop_in: Option<&str>) -> Result<String, String> {
    let layout = &observed.platform.layout;
    let candidate = Path::new(CANDIDATE_FOLDER);
    let folder = layout.path.parent().unwrap_or(Path::new("/"));
    let fill = || -> Result<(), FileError> {
        host.files.remove_tree(candidate)?;
        copy_without(host, folder, candidate, &layout.path)?;
        let ours = drop_in.zip(layout.path.file_name());
        ours.map_or(Ok(()), |(text, name)| {
            host.files.write_new(&candidate.join(name), Attributes::PRIVATE, &mut text.as_bytes())
        })
    };
    let program = &observed.platform.daemon.program;
    let main = observed.loaded.as_ref().map(|_| layout.loaded.as_path());
    let answer = fill()
        .map_err(|error| error.to_string())
        .and_then(|()| host.system.crio_config(program, main, candidate).map_err(|error| error.to_string()));
    host.files.remove_tree(candidate).map_err(|error| error.to_string())?;
    answer
}

/// Copies a folder as CRI-O reads it: every file, also those in folders below.
fn copy_without(host: &Host, from: &Path, to: &Path, left_out: &Path) -> Result<(), FileError> {
    let files = &host.files;
    files.make_dir(to)?;
    for name in files.names(from) {
        let (path, copy) = (from.join(&name), to.join(&name));
        if files.link_metadata(&path).is_some_and(|entry| entry.is_dir()) {
            copy_without(host, &path, &copy, left_out)?;
        } else if let Some(content) = files.read(&path).ok().flatten().filter(|_| path != left_out) {
            files.write_new(&copy, Attributes::PRIVATE, &mut content.as_slice())?;
        }
    }
    Ok(())
}

/// Only relative imports need the file's own folder.
fn candidate_path(config: &Path, text: &str) -> PathBuf {
    let relative = imports(text).iter().any(|import| !import.starts_with('/'));
    if relative { temporary(config) } else { PathBuf::from(CANDIDATE) }
}

fn ask_patiently(host: &Host, socket: &str) -> Result<CriStatus, String> {
    // A daemon that somebody else has just restarted needs a moment.
    const TRIES: usize = 40;
    let mut words = String::new();
    for _ in 0..TRIES {
        match host.system.cri(socket) {
            Ok(status) if status.ready => return Ok(status),
            Ok(status) => words = format!("the condition RuntimeReady is false: {}", status.message),
            Err(error) => words = error.to_string(),
        }
        host.system.pause(Duration::from_millis(250));
    }
    Err(words)
}
