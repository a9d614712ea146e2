//! One file of an image, from a registry: the OCI distribution specification, as much of it as pulling needs.
//!
//! Everything is named by its digest and compared with it, so a registry is trusted with nothing but our time.

use std::cell::RefCell;
use std::fs::File;
use std::io::Seek as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::header::{ACCEPT, AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use ureq::http::{StatusCode, Uri};

use super::client::Answer;
use super::credentials::{Credentials, Secret};
use super::download::{DownloadError, Request, Surroundings, download};
use super::hex;
use super::layer::{Sight, look};
use super::login::{Login, patiently, read};
use super::proxy::is_loopback;
use super::reference::Reference;
use super::remote::{architecture, platform, shown};
use super::tarball::{Bounds, TarballError, escaped};
use super::transfer::TransferError;
use crate::host::Files;

/// Entries of a layer: a whole distribution has some hundred thousand.
const ENTRIES_MAX: u64 = 1_000_000;

/// Layers that are looked through: overlayfs takes no more than 500 (Linux' `OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;

/// Platforms that a message names.
const NAMED_MAX: usize = 10;

/// A list of manifests, one for each platform, and a manifest: of OCI and of Docker.
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Something did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// What came is no manifest.
    #[error("{url}: it is no image: {words}")]
    Manifest {
        /// Where.
        url: String,
        /// What is wrong.
        words: String,
    },
    /// The image is for other machines.
    #[error("the image has no manifest for {this}; it has: {available}")]
    Platform {
        /// This machine's.
        this: String,
        /// What there is.
        available: String,
    },
    /// A layer cannot be used.
    #[error("the layer sha256:{digest} cannot be used: {error}")]
    Layer {
        /// Its digest.
        digest: String,
        /// Why.
        error: TarballError,
    },
    /// The file is not in the image.
    #[error("there is no file `/{path}`: {why}")]
    NoFile {
        /// What was asked for.
        path: String,
        /// Why not.
        why: String,
    },
}

impl From<TransferError> for ImageError {
    fn from(error: TransferError) -> Self {
        Self::Download(error.into())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    schema_version: u32,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A repository of a registry.
pub struct Repository<'a> {
    surroundings: Surroundings<'a>,
    image: &'a Reference,
    secret: Option<&'a Secret>,
    scheme: &'static str,
    authorization: RefCell<Option<String>>,
}

impl<'a> Repository<'a> {
    /// The repository of an image.
    #[must_use]
    pub fn new(surroundings: Surroundings<'a>, image: &'a Reference, credentials: &'a Credentials) -> Self {
        let host = image.host();
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        // As other container tools do it: a registry on this machine needs no certificate.
        let scheme = if is_loopback(host) || is_loopback(name) { "http" } else { "https" };
        let secret = credentials.for_image(image);
        Self { surroundings, image, secret, scheme, authorization: RefCell::default() }
    }

    /// Writes the image's file `path` to `to`; layers are put at `layer` meanwhile.
    ///
    /// # Errors
    /// If the image cannot be had, or has no such file.
    pub fn fetch(&self, path: &str, files: &Files, layer: &Path, to: &Path) -> Result<(), ImageError> {
        let layers = self.layers()?;
        if layers.len() > LAYERS_MAX {
            let words = format!("it has {} layers", layers.len());
            return Err(ImageError::Manifest { url: self.image.to_string(), words });
        }
        for descriptor in layers.iter().rev() {
            let digest = plain_digest(&descriptor.digest).ok_or_else(|| self.no_digest(&descriptor.digest))?;
            self.blob(digest, descriptor.size, files, layer)?;
            let sight = self.look(digest, path, files, layer, to)?;
            files.remove(layer).map_err(DownloadError::File)?;
            match sight {
                Sight::Here => return Ok(()),
                Sight::Absent => {}
                Sight::Hidden(why) => return Err(ImageError::NoFile { path: path.to_owned(), why }),
            }
        }
        let why = format!("none of the image's {} layers has it", layers.len());
        Err(ImageError::NoFile { path: path.to_owned(), why })
    }

    fn look(&self, digest: &str, path: &str, files: &Files, layer: &Path, to: &Path) -> Result<Sight, ImageError> {
        let failed = |error| match error {
            // A full disk is no fault of the layer's.
            TarballError::File(error) => ImageError::Download(error.into()),
            error => ImageError::Layer { digest: digest.to_owned(), error },
        };
        let real = files.locate(layer);
        let mut file = File::open(&real).map_err(|error| failed(TarballError::Damaged(error)))?;
        file.rewind().map_err(|error| failed(TarballError::Damaged(error)))?;
        let bounds = Bounds { bytes: self.surroundings.client.limits().unpacked, entries: ENTRIES_MAX };
        look(&file, path, bounds, |mut data| super::fetch::write_program(files, to, &mut data)).map_err(failed)
    }

    /// The layers for this machine, the lowest first.
    fn layers(&self) -> Result<Vec<Descriptor>, ImageError> {
        let document = self.manifest(self.image.digest.as_str())?;
        if document.manifests.is_empty() {
            return Ok(document.layers);
        }
        let suits = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "linux" && platform.architecture == architecture())
        };
        let Some(descriptor) = document.manifests.iter().find(suits) else {
            let there = document.manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
            // Attestations hang there too, under a platform that no machine has.
            let there = there.filter(|platform| platform.os != "unknown");
            let name = |platform: &Platform| escaped(format!("{}/{}", platform.os, platform.architecture).as_bytes());
            let names: Vec<String> = there.take(NAMED_MAX).map(name).collect();
            return Err(ImageError::Platform { this: platform(), available: names.join(", ") });
        };
        let digest = plain_digest(&descriptor.digest).ok_or_else(|| self.no_digest(&descriptor.digest))?;
        Ok(self.manifest(digest)?.layers)
    }

    fn no_digest(&self, found: &str) -> ImageError {
        let words = format!("`{}` is no SHA-256 digest", found.escape_debug());
        ImageError::Manifest { url: self.image.to_string(), words }
    }

    fn manifest(&self, digest: &str) -> Result<Document, ImageError> {
        let url = self.url(&format!("manifests/sha256:{digest}"))?;
        let mut answer = self.ask(&url, &[(ACCEPT, MEDIA_TYPES.join(", "))])?;
        if answer.status != StatusCode::OK {
            return Err(answer.refused(&url).into());
        }
        let body = read(&mut answer, &url)?;
        let found = hex(&Sha256::digest(&body));
        if found != digest {
            let what = format!("{} bytes", body.len());
            let expected = digest.to_owned();
            return Err(TransferError::Digest { url: shown(&url), expected, found, what }.into());
        }
        let refused = |words: String| ImageError::Manifest { url: shown(&url), words };
        let document: Document = serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))?;
        match document.schema_version {
            2 => Ok(document),
            other => Err(refused(format!("its manifest has schemaVersion {other}; 2 is known here"))),
        }
    }

    /// Downloads a layer; a login that has ended since is renewed once.
    fn blob(&self, digest: &str, size: u64, files: &Files, to: &Path) -> Result<(), ImageError> {
        let tried = self.try_blob(digest, size, files, to);
        let ended = matches!(
            &tried,
            Err(ImageError::Download(DownloadError::Transfer(TransferError::Status { status, .. })))
                if *status == StatusCode::UNAUTHORIZED
        );
        if !ended || self.authorization.take().is_none() {
            return tried;
        }
        self.manifest(self.image.digest.as_str())?;
        self.try_blob(digest, size, files, to)
    }

    fn try_blob(&self, digest: &str, size: u64, files: &Files, to: &Path) -> Result<(), ImageError> {
        let url = self.url(&format!("blobs/sha256:{digest}"))?;
        let limit = self.surroundings.client.limits().served;
        if size > limit {
            return Err(TransferError::TooLarge { url: shown(&url), limit }.into());
        }
        let headers = self.headers(&[]);
        let request = Request { url: &url, headers: &headers, sha256: digest, limit: size };
        Ok(download(self.surroundings, &request, files, to)?)
    }

    fn url(&self, rest: &str) -> Result<Uri, ImageError> {
        let text = format!("{}://{}/v2/{}/{rest}", self.scheme, self.image.host(), self.image.repository);
        text.parse().map_err(|_| ImageError::Manifest { url: text.clone(), words: "it is no URL".to_owned() })
    }

    fn headers(&self, more: &[(HeaderName, String)]) -> Vec<(HeaderName, String)> {
        let mut headers = more.to_vec();
        headers.extend(self.authorization.borrow().iter().map(|value| (AUTHORIZATION, value.clone())));
        headers
    }

    /// Asks, and logs in where the registry wants it.
    fn ask(&self, url: &Uri, headers: &[(HeaderName, String)]) -> Result<Answer, TransferError> {
        let answer = patiently(self.surroundings, url, &self.headers(headers))?;
        if answer.status != StatusCode::UNAUTHORIZED || self.authorization.borrow().is_some() {
            return Ok(answer);
        }
        let challenge = answer.header(&WWW_AUTHENTICATE).unwrap_or_default().to_owned();
        let login = Login { surroundings: self.surroundings, image: self.image, secret: self.secret };
        *self.authorization.borrow_mut() = Some(login.answer(url, &challenge)?);
        let answer = patiently(self.surroundings, url, &self.headers(headers))?;
        match self.secret {
            Some(_) if answer.status == StatusCode::UNAUTHORIZED => {
                let words = format!("it refuses the pull secret: HTTP {}", answer.status);
                Err(TransferError::Login { url: shown(url), words })
            }
            _ => Ok(answer),
        }
    }
}

fn plain_digest(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    (digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(digits)
}
