//! A configuration that does not count yet: the daemon itself is asked what it would make of it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut};

use super::{Host, Observed};
use crate::config::dump::Dump;
use crate::config::imports;
use crate::failure::{Reason, Stop};
use crate::host::files::{Attributes, FileError};
use crate::host::system::SystemError;

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

/// Why the daemon did not say what it would make of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// In its own words.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked.
    #[error("{0}")]
    File(FileError),
}

impl From<SystemError> for LoadError {
    fn from(error: SystemError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl LoadError {
    /// Stops the run; `refused` is the reason if it was the daemon that refused.
    #[must_use]
    pub fn stop(&self, step: &str, refused: Reason) -> Stop {
        match self {
            Self::Refused(words) => Stop::unchanged(step, refused, words),
            Self::File(error) => Stop::unchanged(step, Reason::FileNotChanged, error),
        }
    }
}

/// Files that are only there while the daemon is asked: in memory, and overwritten by the next run if they stay.
const CANDIDATE: &str = "/run/.kwasm-candidate";
const CANDIDATE_DROP_IN: &str = "/run/.kwasm-candidate-drop-in";
const CANDIDATE_FOLDER: &str = "/run/.kwasm-candidate.d";

/// What the daemon would make of a configuration.
///
/// # Errors
/// If it refuses it, or it cannot be asked.
pub fn load(host: &Host, observed: &Observed, loadable: &Loadable) -> Result<Dump, LoadError> {
    let layout = &observed.platform.layout;
    let program = &observed.platform.daemon.program;
    let dump = |file: Option<&Path>| Ok(host.system.config_dump(program, file)?);
    // What a distribution renders, it may render anew at any moment.
    let current = observed.config.as_ref().filter(|_| observed.loaded.is_none());
    let printed = match loadable {
        Loadable::Defaults => dump(None),
        Loadable::File(text) if Some(text) == current => dump(Some(&layout.loaded)),
        Loadable::File(text) => {
            let text = from_anywhere(&layout.loaded, text)?;
            with_files(host, &[(Path::new(CANDIDATE), &text)], || dump(Some(Path::new(CANDIDATE))))
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
    let parse = |text: String| {
        Dump::parse(&text).map_err(|error| LoadError::Refused(format!("{daemon} printed no TOML: {}", error.message())))
    };
    let dump = parse(printed?)?;
    if !matches!(loadable, Loadable::Crio { .. }) {
        return Ok(dump);
    }
    Ok(dump.completed(&parse(host.system.crio_defaults(program)?)?))
}

fn with_files<T>(
    host: &Host,
    files: &[(&Path, &str)],
    ask: impl FnOnce() -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let mut written =
        files.iter().map(|(path, text)| host.files.write_new(path, Attributes::PRIVATE, &mut text.as_bytes()));
    let answer = written.try_for_each(|file| file.map_err(LoadError::File)).and_then(|()| ask());
    for (path, _) in files {
        host.files.remove(path).ok();
    }
    answer
}

/// The daemon's file with every file of the imported folder named, ours being another or none.
fn importing(host: &Host, observed: &Observed, root: &str, with_ours: bool) -> Result<String, LoadError> {
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
    with_imports(root, paths.into_iter())
}

fn with_crio_folder(host: &Host, observed: &Observed, drop_in: Option<&str>) -> Result<String, LoadError> {
    let layout = &observed.platform.layout;
    let candidate = Path::new(CANDIDATE_FOLDER);
    let folder = layout.path.parent().unwrap_or(Path::new("/"));
    let fill = || -> Result<(), LoadError> {
        host.files.remove_tree(candidate).map_err(LoadError::File)?;
        copy_without(host, folder, candidate, &layout.path)?;
        let ours = drop_in.zip(layout.path.file_name());
        ours.map_or(Ok(()), |(text, name)| {
            let copied = host.files.write_new(&candidate.join(name), Attributes::PRIVATE, &mut text.as_bytes());
            copied.map_err(LoadError::File)
        })
    };
    let program = &observed.platform.daemon.program;
    let main = observed.loaded.as_ref().map(|_| layout.loaded.as_path());
    let answer = fill().and_then(|()| Ok(host.system.crio_config(program, main, candidate)?));
    host.files.remove_tree(candidate).ok();
    answer
}

/// Copies a folder as CRI-O reads it: every file, also those in folders below. It stops at anything else.
fn copy_without(host: &Host, from: &Path, to: &Path, left_out: &Path) -> Result<(), LoadError> {
    let files = &host.files;
    files.make_dir(to).map_err(LoadError::File)?;
    for name in files.names(from) {
        let (path, copy) = (from.join(&name), to.join(&name));
        if files.link_metadata(&path).is_some_and(|entry| entry.is_dir()) {
            copy_without(host, &path, &copy, left_out)?;
        } else if path != left_out {
            let is_file = files.metadata(&path).is_some_and(|entry| entry.is_file());
            let content = if is_file { files.read(&path).map_err(LoadError::File)? } else { None };
            let Some(content) = content else {
                let words = format!("{} is no file: CRI-O does not start with it", path.display());
                return Err(LoadError::Refused(words));
            };
            files.write_new(&copy, Attributes::PRIVATE, &mut content.as_slice()).map_err(LoadError::File)?;
        }
    }
    Ok(())
}

/// The same with imports that do not depend on the file's own folder.
fn from_anywhere<'a>(config: &Path, text: &'a str) -> Result<Cow<'a, str>, LoadError> {
    let imports = imports(text);
    if imports.iter().all(|import| import.starts_with('/')) {
        return Ok(text.into());
    }
    let folder = config.parent().unwrap_or(Path::new("/"));
    Ok(with_imports(text, imports.iter().map(|import| folder.join(import)))?.into())
}

fn with_imports(text: &str, paths: impl Iterator<Item = PathBuf>) -> Result<String, LoadError> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| LoadError::Refused(error.message().to_owned()))?;
    let paths: Array = paths.map(|path| path.display().to_string()).collect();
    document["imports"] = toml_edit::value(paths);
    Ok(document.to_string())
}
