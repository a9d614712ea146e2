//! What is fetched: validated, and pinned by a digest, so that its place on the node is known before it is there.

use std::fmt;

use kwasm_api::runtime::{Http, HttpArtifact, Image, RuntimeKind};
use ureq::http::Uri;

use super::reference::{Reference, ReferenceError};
use super::{Artifact, Place, text_digest};
use crate::failure::listed;

/// A source that is not on the node and not in the installer's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A file that a web server serves.
    Http {
        /// Where.
        url: Uri,
        /// Of the served bytes.
        sha256: Sha256Digest,
    },
    /// A file of an image.
    Image {
        /// Which image.
        reference: Reference,
        /// Where in it, without the leading `/`.
        path: String,
    },
}

/// Why a source is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Nothing for this machine.
    #[error("there is no artifact for {this}; there is: {available}")]
    Platform {
        /// The platform of this program.
        this: String,
        /// What there is.
        available: String,
    },
    /// More than one for this machine.
    #[error("there are two artifacts for {0}")]
    Twice(String),
    /// Not a URL that can be fetched.
    #[error("`{0}` is not a URL `http://…` or `https://…` without user, password and fragment")]
    Url(String),
    /// Not a digest.
    #[error("`{0}` is not a SHA-256 of 64 hexadecimal digits")]
    Sha256(String),
    /// Not an image that can be pulled.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Not a path of a file.
    #[error("`{0}` is not an absolute path of a file, without `.` and `..`")]
    Path(String),
}

/// SHA-256 in 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sha256Digest(String);

impl Sha256Digest {
    /// Accepts 64 hexadecimal digits.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let fits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(RemoteError::Sha256(text.to_owned())) }
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Remote {
    /// The artifact of this machine's platform.
    ///
    /// # Errors
    /// If there is none, or it is not one that can be fetched.
    pub fn http(http: &Http) -> Result<Self, RemoteError> {
        let this = platform();
        let variants = format!("{this}/");
        let suits = |found: &&HttpArtifact| found.platform == this || found.platform.starts_with(&variants);
        let mut suitable = http.artifacts.iter().filter(suits);
        let (artifact, second) = (suitable.next(), suitable.next());
        let Some(artifact) = artifact else {
            let available: Vec<&str> = http.artifacts.iter().map(|artifact| artifact.platform.as_str()).collect();
            let available = listed(&available);
            return Err(RemoteError::Platform { this, available });
        };
        if second.is_some() {
            return Err(RemoteError::Twice(this));
        }
        Ok(Self::Http { url: url(&artifact.url)?, sha256: Sha256Digest::parse(&artifact.sha256)? })
    }

    /// A file of an image.
    ///
    /// # Errors
    /// If the image is not pinned by a digest, or the path is none.
    pub fn image(image: &Image) -> Result<Self, RemoteError> {
        let reference = Reference::parse(&image.reference)?;
        let inside = image.path.strip_prefix('/').unwrap_or_default();
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
        if inside.split('/').all(plain) {
            Ok(Self::Image { reference, path: inside.to_owned() })
        } else {
            Err(RemoteError::Path(image.path.clone()))
        }
    }

    /// What identifies the content: not where it is fetched from, so that another mirror is no other content.
    fn pin(&self) -> String {
        match self {
            Self::Http { sha256, .. } => sha256.as_str().to_owned(),
            Self::Image { reference, path } => format!("{}\0{path}", reference.digest.as_str()),
        }
    }

    /// The artifact as it will be on the node: the main binary is named after its runtime, so that the link, and
    /// with it the configuration, is known before anything is fetched, and two versions of one shim can be side
    /// by side. Whatever version it was named for: `-v2` is what containerd and CRI-O both start.
    #[must_use]
    pub fn expected(&self, runtime: &str, kind: RuntimeKind) -> Artifact {
        let shim = match kind {
            RuntimeKind::Shim => format!("containerd-shim-{runtime}-v2"),
            RuntimeKind::Oci => runtime.to_owned(),
        };
        Artifact {
            name: runtime.to_owned(),
            digest: text_digest(&format!("{kind:?}\0{}", self.pin()))[..16].to_owned(),
            files: vec![shim.clone()],
            shim,
            sha256: String::new(),
            source: Place::Remote(self.clone()),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => f.write_str(&shown(url)),
            Self::Image { reference, path } => write!(f, "/{path} of the image {reference}"),
        }
    }
}

/// A URL as messages name it: queries often carry signatures, which belong in no log, and where a server redirects to may
/// have a password.
#[must_use]
pub fn shown(url: &Uri) -> String {
    let text = url.to_string();
    let text = match url.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
        Some((user, _)) => text.replacen(&format!("{user}@"), "…@", 1),
        None => text,
    };
    match text.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => text,
    }
}

/// A text that is no URL as messages name it: whatever stands before an `@` may be a password.
pub(super) fn shown_text(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => text.split_at(scheme.len() + "://".len()),
        _ => ("", text),
    };
    let (hidden, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, host)| ("…@", host));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(before, _)| (before, "?…"));
    format!("{scheme}{hidden}{rest}{query}")
}

fn url(text: &str) -> Result<Uri, RemoteError> {
    let refused = || RemoteError::Url(shown_text(text));
    let url: Uri = text.parse().map_err(|_| refused())?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().is_some_and(|authority| {
        let host = authority.host();
        // The parser takes anything for a port, such as half of a password.
        let port = authority.as_str() == host || authority.port_u16().is_some();
        port && !authority.as_str().contains('@') && !host.is_empty()
    });
    // A fragment is never sent, and `http::Uri` drops it: somebody meant something by it.
    if scheme && authority && !text.contains('#') { Ok(url) } else { Err(refused()) }
}

/// This program's platform as OCI images name it, such as `linux/amd64`.
#[must_use]
pub fn platform() -> String {
    format!("linux/{}", architecture())
}

/// This program's architecture as OCI images name it: Go's names.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn http(artifacts: &[(&str, &str, &str)]) -> Http {
        let artifact = |&(platform, url, sha256): &(&str, &str, &str)| HttpArtifact {
            platform: platform.into(),
            url: url.into(),
            sha256: sha256.into(),
        };
        Http { artifacts: artifacts.iter().map(artifact).collect() }
    }

    #[test]
    fn the_artifact_of_this_platform_is_taken() {
        let this = platform();
        let both = http(&[("linux/other", "https://x/other", SHA), (&this, "https://x/this", SHA)]);
        assert_eq!(Remote::http(&both).unwrap().to_string(), "https://x/this");
    }

    #[test]
    fn a_platform_that_is_missing_is_refused_with_those_there_are() {
        let error = Remote::http(&http(&[("linux/a", "", ""), ("linux/b", "", "")])).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no artifact for {}; there is: linux/a, linux/b", platform()));
    }

    #[rstest]
    #[case::scheme("ftp://x/y")]
    #[case::relative("/y")]
    #[case::fragment("https://x/y#z")]
    #[case::space("https://x/a b")]
    #[case::port("https://x:y/z")]
    fn a_url_that_cannot_be_fetched_is_refused(#[case] url: &str) {
        let error = Remote::http(&http(&[(&platform(), url, SHA)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{url}` is not a URL `http://…` or `https://…` without user, password and fragment")
        );
    }

    #[rstest]
    #[case::password("https://user:secret@x/y", "https://…@x/y")]
    #[case::user("https://secret@x/y", "https://…@x/y")]
    #[case::slash_in_it("https://user:sec/ret@x/y", "https://…@x/y")]
    #[case::signs_in_it("https://user:se@c?r#et@x/y", "https://…@x/y")]
    #[case::no_scheme("user:secret@x/y", "…@x/y")]
    #[case::other_scheme("ftp://user:secret@x/y", "ftp://…@x/y")]
    #[case::scheme_in_it("user:se://cret@x/y", "…@x/y")]
    #[case::signature("ftp://x/y?signature=secret", "ftp://x/y?…")]
    fn a_url_that_is_refused_is_shown_without_its_secrets(#[case] url: &str, #[case] shown: &str) {
        let message = Remote::http(&http(&[(&platform(), url, SHA)])).unwrap_err().to_string();
        assert!(message.starts_with(&format!("`{shown}` is not a URL ")), "{message}");
    }

    #[test]
    fn a_digest_is_read_in_either_case_and_nothing_else() {
        assert_eq!(Sha256Digest::parse(&SHA.to_uppercase()), Sha256Digest::parse(SHA));
        assert!(Sha256Digest::parse(&SHA[1..]).is_err());
        assert!(Sha256Digest::parse(&SHA.replace('e', "g")).is_err());
    }

    #[rstest]
    #[case("x")]
    #[case("/")]
    #[case("/a//b")]
    #[case("/../x")]
    #[case("/a/")]
    fn a_path_that_names_no_file_is_refused(#[case] path: &str) {
        let image = Image { reference: format!("x.y/z@sha256:{SHA}"), path: path.into() };
        let message = Remote::image(&image).unwrap_err().to_string();
        assert_eq!(message, format!("`{path}` is not an absolute path of a file, without `.` and `..`"));
    }

    #[test]
    fn another_mirror_is_no_other_content_and_another_kind_is() {
        let of = |url, kind| Remote::http(&http(&[(&platform(), url, SHA)])).unwrap().expected("spin", kind).digest;
        assert_eq!(of("https://a/x", RuntimeKind::Shim), of("https://b/x", RuntimeKind::Shim));
        assert_ne!(of("https://a/x", RuntimeKind::Shim), of("https://a/x", RuntimeKind::Oci));
    }

    #[test]
    fn a_url_is_shown_without_signature_and_password() {
        assert_eq!(shown(&"https://x/y?signature=secret".parse().unwrap()), "https://x/y?…");
        assert_eq!(shown(&"https://user:secret@x/@y?z".parse().unwrap()), "https://…@x/@y?…");
    }
}
