//! Who we are to a registry: pull secrets, as files that the Job mounts. They are in no Order, and in no message.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::reference::Reference;

/// The environment variable that names another folder of secrets.
const FOLDER_ENV: &str = "KWASM_PULL_SECRETS";

/// A folder for each secret, each with a file [`FILE`].
const FOLDER: &str = "/var/run/secrets/kwasm/pull";

/// The key of a Kubernetes Secret of type `kubernetes.io/dockerconfigjson`.
const FILE: &str = ".dockerconfigjson";

/// The largest Secret that Kubernetes keeps.
const FILE_MAX: u64 = 1 << 20;

/// User and password by registry, or by registry and the beginning of a repository's name.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, Secret>);

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Base64 of `user:password`, as HTTP's basic authentication wants it.
    pub basic: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerLogin>,
}

#[derive(Deserialize)]
struct DockerLogin {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    /// The secrets that are mounted for this process. One that cannot be read is none: a registry that needs it says
    /// so, and another may not.
    #[must_use]
    pub fn of_this_process() -> Self {
        let folder = std::env::var_os(FOLDER_ENV).map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
        Self::in_folder(&folder)
    }

    /// The secrets in a folder of folders.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path().join(FILE)).collect();
        files.sort();
        files.retain(|file| fs::metadata(file).is_ok_and(|file| file.len() <= FILE_MAX));
        let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
        let configs = texts.filter_map(|text| serde_json::from_str::<DockerConfig>(&text).ok());
        let logins = configs.flat_map(|config| config.auths);
        Self(logins.filter_map(|(place, login)| Some((place_of(&place), Secret::of(&login)?))).collect())
    }

    /// The login for an image: that of the longest place that its name begins with, as the kubelet chooses.
    #[must_use]
    pub fn for_image(&self, image: &Reference) -> Option<&Secret> {
        let name = format!("{}/{}/", image.registry, image.repository);
        let fits = |place: &str| name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        let places = self.0.iter().filter(|(place, _)| fits(place));
        places.max_by_key(|(place, _)| place.len()).map(|(_, login)| login)
    }
}

/// A key of `auths` without what old clients put around the registry's name.
fn place_of(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    // What `docker login` writes for Docker Hub.
    if key == "index.docker.io" { "docker.io".to_owned() } else { key.to_owned() }
}

impl Secret {
    fn of(login: &DockerLogin) -> Option<Self> {
        if !login.auth.is_empty() {
            return STANDARD.decode(login.auth.trim()).ok().map(|bytes| Self { basic: STANDARD.encode(bytes) });
        }
        let both = format!("{}:{}", login.username, login.password);
        (!login.username.is_empty()).then(|| Self { basic: STANDARD.encode(both) })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PIN: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn secrets(files: &[&str]) -> (tempfile::TempDir, Credentials) {
        let folder = tempfile::tempdir().unwrap();
        for (number, content) in files.iter().enumerate() {
            let secret = folder.path().join(number.to_string());
            fs::create_dir(&secret).unwrap();
            fs::write(secret.join(FILE), content).unwrap();
        }
        let credentials = Credentials::in_folder(folder.path());
        (folder, credentials)
    }

    fn login(file: &str, image: &str) -> Option<String> {
        let (_folder, credentials) = secrets(&[file]);
        let image = Reference::parse(&format!("{image}{PIN}")).unwrap();
        let basic = &credentials.for_image(&image)?.basic;
        Some(String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap())
    }

    #[rstest]
    #[case(r#"{"auths": {"ghcr.io": {"auth": "dTpw"}}}"#, "ghcr.io/a/b")]
    #[case(r#"{"auths": {"https://ghcr.io/v2/": {"username": "u", "password": "p"}}}"#, "ghcr.io/a")]
    #[case(r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#, "nginx")]
    #[case(r#"{"auths": {"ghcr.io": {"auth": "eDp5"}, "ghcr.io/a": {"auth": "dTpw"}}}"#, "ghcr.io/a/b")]
    fn a_secret_is_found_for_its_registry(#[case] file: &str, #[case] image: &str) {
        assert_eq!(login(file, image).as_deref(), Some("u:p"));
    }

    #[rstest]
    #[case(r#"{"auths": {"ghcr.io": {"auth": "dTpw"}}}"#, "ghcr.io.evil.example/a")]
    #[case(r#"{"auths": {"ghcr.io/a": {"auth": "dTpw"}}}"#, "ghcr.io/ab")]
    #[case(r#"{"auths": {"ghcr.io": {"auth": "not base64"}}}"#, "ghcr.io/a")]
    #[case("no JSON", "ghcr.io/a")]
    fn a_secret_goes_to_nobody_else(#[case] file: &str, #[case] image: &str) {
        assert_eq!(login(file, image), None);
    }

    #[test]
    fn a_broken_secret_does_not_hide_another_one() {
        let (_folder, credentials) = secrets(&["{", r#"{"auths": {"ghcr.io": {"auth": "dTpw"}}}"#]);
        assert!(credentials.for_image(&Reference::parse(&format!("ghcr.io/a{PIN}")).unwrap()).is_some());
    }

    #[test]
    fn a_password_is_not_printed() {
        let (_folder, credentials) = secrets(&[r#"{"auths": {"ghcr.io": {"auth": "dTpw"}}}"#]);
        assert_eq!(format!("{credentials:?}"), r#"{"ghcr.io"}"#);
    }
}
