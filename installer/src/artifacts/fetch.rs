//! The stage that fetches: after everything was decided, before anything is changed. What it leaves is one folder,
//! which goes whether the run succeeds or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kwasm_api::runtime::RuntimeKind;

use super::archive::{ArchiveError, Choice, base, survey};
use super::client::Client;
use super::download::{DownloadError, Request, Surroundings, download};
use super::program::{self, ProgramError};
use super::registry::{ImageError, Repository};
use super::remote::Remote;
use super::tarball::{Bounds, TarballError};
use super::transfer::TransferError;
use super::{Artifact, Place, file_digest};
use crate::apply::Progress;
use crate::failure::{Reason, Stop};
use crate::host::Files;
use crate::host::files::{Attributes, FileError};
use crate::host::system::SystemError;
use crate::observe::{Host, Settings};
use crate::target::Target;

/// The folder's name.
const FOLDER: &str = ".kwasm-download";

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a runtime was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The image did not come, or does not hold it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What came is not used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// This machine cannot run it.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It does not answer.
    #[error("it is installed nowhere, because it does not run here: {0}")]
    Answer(SystemError),
    /// Something of the node failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl FetchError {
    fn stop(&self, step: &str) -> Stop {
        let stop = Stop::unchanged(step, self.reason(), self);
        if self.is_about_login() {
            return stop.with_remedy(
                "correct the pull secret: one that the chart's imagePullSecrets names, or a file in $KWASM_PULL_SECRETS",
            );
        }
        stop
    }

    const fn is_about_login(&self) -> bool {
        let Self::Image(ImageError::Download(DownloadError::Transfer(error))) = self else { return false };
        matches!(error, TransferError::Login { .. })
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Download(DownloadError::File(_))
            | Self::Image(ImageError::Download(DownloadError::File(_)))
            | Self::File(_) => Reason::FileNotChanged,
            Self::Download(DownloadError::Transfer(error))
            | Self::Image(ImageError::Download(DownloadError::Transfer(error))) => {
                if error.is_about_content() {
                    Reason::ArtifactRefused
                } else {
                    Reason::ArtifactNotFetched
                }
            }
            Self::Image(_) | Self::Archive(_) | Self::Program(_) | Self::Answer(_) => Reason::ArtifactRefused,
        }
    }
}

impl From<TarballError> for FetchError {
    /// A full disk is no fault of the archive's.
    fn from(error: TarballError) -> Self {
        match error {
            TarballError::File(error) => Self::File(error),
            other => Self::Archive(other.into()),
        }
    }
}

/// Where things are fetched to: beside the directory for binaries if that is not there yet, because a directory that
/// a transaction creates is one that it takes back.
fn staging(files: &Files, install_dir: &Path) -> PathBuf {
    let there = install_dir.ancestors().find(|dir| files.metadata(dir).is_some());
    there.unwrap_or(Path::new("/")).join(FOLDER)
}

/// Folders that a run left which was cut off while it fetched.
#[must_use]
pub fn leftovers(files: &Files, install_dir: &Path) -> Vec<PathBuf> {
    let places = install_dir.ancestors().map(|dir| dir.join(FOLDER));
    places.filter(|place| files.link_metadata(place).is_some()).collect()
}

/// Fetches every artifact that is elsewhere, and checks it: afterwards all are in a folder.
///
/// # Errors
/// If one cannot be had or used; the node is unchanged then.
pub fn fetch(
    host: &Host,
    settings: &Settings,
    target: &Target,
    install_dir: &Path,
    artifacts: &mut BTreeMap<String, Artifact>,
    progress: Progress<'_>,
) -> Result<(), Stop> {
    let staging = staging(&host.files, install_dir);
    let client = Client::new(&host.files, &settings.network, &settings.limits);
    for wanted in &target.runtimes {
        let Some(artifact) = wanted.artifact().and_then(|name| artifacts.get_mut(name)) else { continue };
        let Place::Remote(remote) = artifact.source.clone() else { continue };
        let step = format!("fetch the runtime {} from {remote}", wanted.runtime.name);
        progress(&step);
        let pause = |time| host.system.pause(time);
        let job = Job {
            host,
            settings,
            surroundings: Surroundings { client: &client, progress, pause: &pause },
            remote: &remote,
            kind: wanted.runtime.kind,
            folder: staging.join(&artifact.name),
        };
        let folders = host.files.make_dir(&staging).and_then(|()| host.files.make_dir(&job.folder));
        let fetched = folders.map_err(FetchError::from).and_then(|()| job.run(artifact));
        fetched.map_err(|error| error.stop(&step))?;
    }
    Ok(())
}

/// Removes what was fetched, and what earlier runs left of it.
///
/// # Errors
/// If it cannot be removed.
pub fn clean_up(files: &Files, install_dir: &Path) -> Result<(), FileError> {
    leftovers(files, install_dir).iter().try_for_each(|folder| files.remove_tree(folder))
}

/// One artifact.
struct Job<'a> {
    host: &'a Host,
    settings: &'a Settings,
    surroundings: Surroundings<'a>,
    remote: &'a Remote,
    kind: RuntimeKind,
    folder: PathBuf,
}

impl Job<'_> {
    fn run(&self, artifact: &mut Artifact) -> Result<(), FetchError> {
        let files = &self.host.files;
        let program = self.folder.join(&artifact.shim);
        let companions = match self.remote {
            Remote::Http { url, sha256 } => {
                let served = self.folder.join(".served");
                let limit = self.settings.limits.served;
                let request = Request { url, headers: &[], sha256: sha256.as_str(), limit };
                download(self.surroundings, &request, files, &served)?;
                let companions = self.unpack(&served, artifact)?;
                files.remove(&served)?;
                companions
            }
            Remote::Image { reference, path } => {
                let repository = Repository::new(self.surroundings, reference, &self.settings.network.credentials);
                repository.fetch(path, files, &self.folder.join(".layer"), &program)?;
                Vec::new()
            }
        };
        self.check(&program, &artifact.shim)?;
        let real = files.locate(&program);
        artifact.sha256 =
            file_digest(&real).map_err(|source| FileError { what: "read", path: program.clone(), source })?;
        artifact.files.extend(companions);
        artifact.files.sort();
        artifact.source = Place::Folder(files.locate(&self.folder));
        Ok(())
    }

    /// Puts the programs of an archive into the folder; returns the names of those beside the main one.
    fn unpack(&self, served: &Path, artifact: &Artifact) -> Result<Vec<String>, FetchError> {
        let files = &self.host.files;
        let unreadable = |source| FileError { what: "read", path: served.to_owned(), source };
        let mut file = File::open(files.locate(served)).map_err(unreadable)?;
        let bounds = Bounds { bytes: self.settings.limits.unpacked, entries: self.settings.limits.entries };
        let choice = survey(&file, bounds)?.choose(&artifact.name, self.kind)?;
        let companions: Vec<String> = choice.companions.iter().map(|name| base(name).to_owned()).collect();
        if companions.contains(&artifact.shim) {
            return Err(ArchiveError::Twice(artifact.shim.clone()).into());
        }
        self.take_out(&choice, &mut file, bounds, &artifact.shim)?;
        Ok(companions)
    }

    fn take_out(&self, choice: &Choice, file: &mut File, bounds: Bounds, shim: &str) -> Result<(), TarballError> {
        choice.take_out(file, bounds, |name, mut content| {
            let main = name.is_none() || name == choice.program.as_deref();
            let name = if main { shim } else { base(name.unwrap_or_default()) };
            write_program(&self.host.files, &self.folder.join(name), &mut content)
        })
    }

    /// Whether this node runs it: first its header, then it has to say its version.
    fn check(&self, program: &Path, name: &str) -> Result<(), FetchError> {
        let files = &self.host.files;
        let real = files.locate(program);
        let file = File::open(&real).map_err(|source| FileError { what: "read", path: program.to_owned(), source })?;
        program::runs_on(files, &file, name)?;
        let argument = match self.kind {
            RuntimeKind::Shim => "-v",
            RuntimeKind::Oci => "--version",
        };
        self.host.system.try_out(&real, argument, PATIENCE).map_err(FetchError::Answer)
    }
}

/// Writes a program that comes out of an archive: what fails in between is the archive's fault or the node's.
pub(super) fn write_program(files: &Files, to: &Path, content: &mut dyn Read) -> Result<(), TarballError> {
    let mut failure = None;
    let mut content = Watched { inner: content, failure: &mut failure };
    let written = files.write_new(to, Attributes::PROGRAM, &mut content);
    match failure {
        Some(error) => Err(super::tarball::read_error(error)),
        None => written.map_err(TarballError::File),
    }
}

/// Keeps the error of a reader, which the writer would report as its own.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    failure: &'a mut Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            *self.failure = Some(error);
            told
        })
    }
}
