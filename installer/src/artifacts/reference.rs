//! The name of an image, as container tools write it.

use std::fmt;

use super::remote::Sha256Digest;

/// An image, pinned by a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host and perhaps port of the registry, as it was written; `docker.io` if it was not.
    pub registry: String,
    /// The repository's name.
    pub repository: String,
    /// Of the image's manifest or of its list of manifests.
    pub digest: Sha256Digest,
}

/// Why a reference is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A tag, or nothing: what it names can change.
    #[error("the image `{0}` needs a digest, as in `registry.example/shim@sha256:…`")]
    Unpinned(String),
    /// Anything else.
    #[error("`{0}` is not the name of an image")]
    Malformed(String),
}

impl Reference {
    /// Reads `[registry/]repository[:tag]@sha256:…`. The digest decides; a tag is only for people.
    ///
    /// # Errors
    /// If there is no digest, or it is not the name of an image.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let malformed = || ReferenceError::Malformed(text.to_owned());
        let unpinned = || ReferenceError::Unpinned(text.to_owned());
        let (name, digest) = text.split_once("@sha256:").ok_or_else(unpinned)?;
        let digest = Sha256Digest::parse(digest).map_err(|_| unpinned())?;
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let repository = path.split_once(':').map_or(path.as_str(), |(repository, _tag)| repository);
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        let host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        let fits = text.len() <= 512 && registry.bytes().all(host) && repository.split('/').all(part);
        if fits {
            Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), digest })
        } else {
            Err(malformed())
        }
    }

    /// Where the registry answers.
    #[must_use]
    pub fn host(&self) -> &str {
        // Docker Hub's API has never been where its images' names say.
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@sha256:{}", self.registry, self.repository, self.digest.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PIN: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[rstest]
    #[case("nginx", "docker.io", "library/nginx")]
    #[case("nginx:1", "docker.io", "library/nginx")]
    #[case("spinframework/shim", "docker.io", "spinframework/shim")]
    #[case("ghcr.io/spinframework/shim:v1", "ghcr.io", "spinframework/shim")]
    #[case("localhost/x", "localhost", "x")]
    #[case("127.0.0.1:5000/a/b_c", "127.0.0.1:5000", "a/b_c")]
    #[case("[::1]:5000/a", "[::1]:5000", "a")]
    fn a_reference_is_read_as_container_tools_read_it(
        #[case] name: &str,
        #[case] registry: &str,
        #[case] repository: &str,
    ) {
        let reference = Reference::parse(&format!("{name}{PIN}")).unwrap();
        assert_eq!((reference.registry.as_str(), reference.repository.as_str()), (registry, repository));
    }

    #[rstest]
    #[case("nginx:latest")]
    #[case("nginx")]
    #[case("nginx@sha256:12")]
    #[case("nginx@md5:12")]
    fn what_can_change_is_refused(#[case] text: &str) {
        assert_eq!(Reference::parse(text), Err(ReferenceError::Unpinned(text.into())));
    }

    #[rstest]
    #[case("a b")]
    #[case("x.y/A")]
    #[case("x.y/../z")]
    #[case("x.y/")]
    #[case("x.y?/z")]
    fn what_would_lead_elsewhere_is_refused(#[case] name: &str) {
        let text = format!("{name}{PIN}");
        assert_eq!(Reference::parse(&text), Err(ReferenceError::Malformed(text)));
    }
}
