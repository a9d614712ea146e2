//! One file of an image, from a registry: the OCI distribution specification, as much of it as pulling needs.
//!
//! Everything is named by its digest and compared with it, so a registry is trusted with nothing but our time.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::header::{ACCEPT, AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use ureq::http::{StatusCode, Uri};

use super::client::{Answer, TransferError};
use super::credentials::{Credentials, Login};
use super::download::{DownloadError, Request, Surroundings, download};
use super::hex;
use super::layer::{Sight, look};
use super::proxy::is_loopback;
use super::reference::Reference;
use super::remote::{architecture, platform, shown};
use super::tarball::{Bounds, TarballError};
use crate::host::Files;

/// What a registry must be able to keep: OCI distribution specification 1.1, "Pushing Manifests".
const MANIFEST_MAX: u64 = 4 << 20;

/// Entries of a layer: a whole distribution has some hundred thousand.
const ENTRIES_MAX: u64 = 1_000_000;

/// Layers that are looked through: overlayfs takes no more than 500 (Linux' `OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;

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

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// A repository of a registry.
pub struct Repository<'a> {
    surroundings: Surroundings<'a>,
    image: &'a Reference,
    login: Option<&'a Login>,
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
        let login = credentials.for_image(image);
        Self { surroundings, image, login, scheme, authorization: RefCell::default() }
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
            let names: Vec<String> =
                there.map(|platform| format!("{}/{}", platform.os, platform.architecture)).collect();
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

    fn blob(&self, digest: &str, size: u64, files: &Files, to: &Path) -> Result<(), ImageError> {
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
        let answer = self.patiently(url, &self.headers(headers))?;
        if answer.status != StatusCode::UNAUTHORIZED || self.authorization.borrow().is_some() {
            return Ok(answer);
        }
        let challenge = answer.header(&WWW_AUTHENTICATE).unwrap_or_default().to_owned();
        *self.authorization.borrow_mut() = Some(self.log_in(url, &challenge)?);
        self.patiently(url, &self.headers(headers))
    }

    /// Asks again where it may pass.
    fn patiently(&self, url: &Uri, headers: &[(HeaderName, String)]) -> Result<Answer, TransferError> {
        let Surroundings { client, pause, progress } = self.surroundings;
        let mut wait = client.limits().pause;
        for _ in 1..client.limits().tries {
            let error = match client.get(url, headers) {
                Ok(answer) if answer.status.is_server_error() => answer.refused(url),
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            progress(&format!("{error}: trying again in {} s", wait.as_secs()));
            pause(wait);
            wait = wait.saturating_mul(2);
        }
        client.get(url, headers)
    }

    /// What a challenge of the registry wants to hear.
    fn log_in(&self, url: &Uri, challenge: &str) -> Result<String, TransferError> {
        let refused = |words: &str| TransferError::Login { url: shown(url), words: words.to_owned() };
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let login = self.login.ok_or_else(|| refused("it wants a login, and no pull secret has one for it"))?;
            return Ok(format!("Basic {}", login.basic));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("it wants a login of a kind that is not known here"));
        }
        let realm = parameter(parameters, "realm").unwrap_or_default();
        let service = parameter(parameters, "service").unwrap_or_default();
        let scope = format!("repository:{}:pull", self.image.repository);
        let separator = if realm.contains('?') { '&' } else { '?' };
        let at: Uri = format!("{realm}{separator}service={}&scope={}", encoded(&service), encoded(&scope))
            .parse()
            .map_err(|_| refused("it names no place to log in at"))?;
        let plain = at.scheme_str() == Some("http") && at.host().is_some_and(is_loopback);
        if at.scheme_str() != Some("https") && !plain {
            return Err(refused("it wants a login at a place without TLS"));
        }
        let login = self.login.map(|login| (AUTHORIZATION, format!("Basic {}", login.basic)));
        let mut answer = self.patiently(&at, login.as_slice())?;
        if answer.status != StatusCode::OK {
            let hint = if self.login.is_some() { "refuses the pull secret" } else { "has no pull secret of ours" };
            return Err(refused(&format!("{} {hint}: HTTP {}", shown(&at), answer.status)));
        }
        let token: Token = serde_json::from_slice(&read(&mut answer, &at)?)
            .map_err(|_| refused("its place to log in at answers with no token"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        Ok(format!("Bearer {token}"))
    }
}

/// A body that must be small.
fn read(answer: &mut Answer, url: &Uri) -> Result<Vec<u8>, TransferError> {
    let mut body = Vec::new();
    let words = |error: std::io::Error| TransferError::Connection { url: shown(url), words: error.to_string() };
    (&mut answer.body).take(MANIFEST_MAX + 1).read_to_end(&mut body).map_err(words)?;
    if body.len() as u64 > MANIFEST_MAX {
        return Err(TransferError::TooLarge { url: shown(url), limit: MANIFEST_MAX });
    }
    Ok(body)
}

fn plain_digest(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    (digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(digits)
}

/// A parameter of a challenge: `name="value"`, with commas between (RFC 9110, 11.2).
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

/// A value as it may stand in a URL's query.
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/' | b':');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_inside_its_quotes() {
        let challenge = r#"realm="https://auth.example/token",service=x, scope="repository:a:pull,push""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://auth.example/token"));
        assert_eq!(parameter(challenge, "Service").as_deref(), Some("x"));
        assert_eq!(parameter(challenge, "scope").as_deref(), Some("repository:a:pull,push"));
        assert_eq!(parameter(challenge, "other"), None);
    }

    #[test]
    fn what_a_registry_says_cannot_end_a_query() {
        assert_eq!(encoded("a&b=c d"), "a%26b%3Dc%20d");
    }
}
