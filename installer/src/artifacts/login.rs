//! Logging in at a registry: the challenges of RFC 9110, and the tokens of the distribution project's
//! "token authentication specification".

use std::io::Read as _;

use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, HeaderName};
use ureq::http::{StatusCode, Uri};

use super::client::Answer;
use super::credentials::Secret;
use super::download::Surroundings;
use super::proxy::is_loopback;
use super::reference::Reference;
use super::remote::shown;
use super::transfer::{TransferError, is_busy};

/// What a registry must be able to keep: OCI distribution specification 1.1, "Pushing Manifests".
const MANIFEST_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Somebody who wants to pull an image.
pub struct Login<'a> {
    /// Who asks.
    pub surroundings: Surroundings<'a>,
    /// For what.
    pub image: &'a Reference,
    /// Who we are, if we are anybody.
    pub secret: Option<&'a Secret>,
}

impl Login<'_> {
    /// What a challenge wants to hear in `Authorization`, `url` being what was asked for.
    ///
    /// # Errors
    /// If it wants more than we have, or wants it where it could be overheard.
    pub fn answer(&self, url: &Uri, challenge: &str) -> Result<String, TransferError> {
        let refused = |words: &str| TransferError::Login { url: shown(url), words: words.to_owned() };
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let secret = self.secret.ok_or_else(|| refused("it wants a login, and no pull secret has one for it"))?;
            return Ok(format!("Basic {}", secret.basic));
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
        let login = self.secret.map(|secret| (AUTHORIZATION, format!("Basic {}", secret.basic)));
        let mut answer = patiently(self.surroundings, &at, login.as_slice())?;
        if answer.status != StatusCode::OK {
            let hint = if self.secret.is_some() { "refuses the pull secret" } else { "has no pull secret of ours" };
            return Err(refused(&format!("{} {hint}: HTTP {}", shown(&at), answer.status)));
        }
        let token: Token = serde_json::from_slice(&read(&mut answer, &at)?)
            .map_err(|_| refused("its place to log in at answers with no token"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        Ok(format!("Bearer {token}"))
    }
}

/// Asks a registry, and again where it may pass.
///
/// # Errors
/// If there is no answer.
pub fn patiently(
    surroundings: Surroundings<'_>,
    url: &Uri,
    headers: &[(HeaderName, String)],
) -> Result<Answer, TransferError> {
    let Surroundings { client, pause, progress } = surroundings;
    let mut wait = client.limits().pause;
    for _ in 1..client.limits().tries {
        let error = match client.get(url, headers) {
            Ok(answer) if is_busy(answer.status) => answer.refused(url),
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

/// The body of an answer, which must be small.
///
/// # Errors
/// If it is not, or breaks off.
pub fn read(answer: &mut Answer, url: &Uri) -> Result<Vec<u8>, TransferError> {
    let mut body = Vec::new();
    let words = |error: std::io::Error| TransferError::Connection { url: shown(url), words: error.to_string() };
    (&mut answer.body).take(MANIFEST_MAX + 1).read_to_end(&mut body).map_err(words)?;
    if body.len() as u64 > MANIFEST_MAX {
        return Err(TransferError::TooLarge { url: shown(url), limit: MANIFEST_MAX });
    }
    Ok(body)
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
