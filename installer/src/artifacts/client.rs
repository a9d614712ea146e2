//! One HTTP client for everything that is fetched: blocking, with one TLS provider, and no trust in where it is sent.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, LOCATION};
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, BodyReader, Proxy, Timeout};

use super::archive::Begins;
use super::names::Names;
use super::network::Network;
use super::proxy::Proxies;
use super::remote::{shown, shown_text};
use super::transfer::{REDIRECTS_MAX, TransferError};
use crate::host::Files;

/// Where distributions keep the authorities that the node trusts: Go's `crypto/x509` looks at these, in this order.
const AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How much and how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one download.
    pub served: u64,
    /// Bytes of an archive or a layer, unpacked.
    pub unpacked: u64,
    /// Entries of an archive.
    pub entries: u64,
    /// For name, connection and TLS.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// For everything that one run fetches. A Job has 600 s, and a restart of the daemon may need 200 of them and 90
    /// for CRI: it should not be killed in the middle of one.
    pub total: Duration,
    /// How often one download is tried without getting on.
    pub tries: u32,
    /// Before the second try; doubled before every other.
    pub pause: Duration,
    /// How often the log says how far a download is.
    pub tell_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            served: 512 << 20,
            unpacked: 1 << 30,
            entries: 10_000,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(300),
            tries: 5,
            pause: Duration::from_secs(1),
            tell_every: Duration::from_secs(2),
        }
    }
}

/// An answer whose body was not read yet.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: BodyReader<'static>,
}

impl Answer {
    /// The answer as an error.
    pub fn refused(mut self, url: &Uri) -> TransferError {
        let mut begin = Vec::new();
        // It is only for the message.
        (&mut self.body).take(512).read_to_end(&mut begin).ok();
        TransferError::Status { url: shown(url), status: self.status, begins: Begins::with(&begin) }
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The client.
pub struct Client {
    agent: Agent,
    proxies: Proxies,
    limits: Limits,
    started: Instant,
    trusted: String,
}

impl Client {
    /// A client for one run; its time begins now.
    ///
    /// TLS trusts the node's own list of authorities: whoever runs the node has added the company's own and taken out
    /// what is not to be trusted, and an image could know neither. A node without a list gets Mozilla's.
    #[must_use]
    pub fn new(files: &Files, network: &Network, limits: &Limits) -> Self {
        let (trusted, authorities) = authorities(files);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(authorities).unversioned_rustls_crypto_provider(ring).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("kwasm-installer/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.idle))
            .timeout_per_write(Some(limits.idle))
            .build();
        let resolver = Resolving { names: network.names.clone(), connect: limits.connect };
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
            proxies: network.proxies.clone(),
            limits: limits.clone(),
            started: Instant::now(),
            trusted,
        }
    }

    /// The agreed limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How much time is left for everything.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.limits.total.saturating_sub(self.started.elapsed())
    }

    /// Asks for a URL and follows redirects. `Authorization` goes to the URL's own server only.
    ///
    /// # Errors
    /// If there is no answer, or it leads somewhere that is not followed.
    pub fn get(&self, url: &Uri, headers: &[(HeaderName, String)]) -> Result<Answer, TransferError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let home = at.scheme() == url.scheme() && at.authority() == url.authority();
            let headers = headers.iter().filter(|(name, _)| home || *name != AUTHORIZATION);
            let answer = self.ask(&at, headers)?;
            let location = match answer.status.as_u16() {
                301 | 302 | 303 | 307 | 308 => answer.header(&LOCATION),
                _ => return Ok(answer),
            };
            at = target(&at, location.unwrap_or_default())?;
        }
        Err(TransferError::Redirects(shown(url)))
    }

    fn ask<'a>(
        &self,
        url: &Uri,
        headers: impl Iterator<Item = &'a (HeaderName, String)>,
    ) -> Result<Answer, TransferError> {
        let left = self.time_left();
        if left.is_zero() {
            return Err(self.time_up(url, "there was no time left to ask".to_owned()));
        }
        let proxy = self.proxies.for_url(url).map(Proxy::new).transpose();
        let proxy = proxy.map_err(|_| connection(url, "the proxy in the environment is no URL".to_owned()))?;
        let mut request = self.agent.get(url).header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.config().proxy(proxy).timeout_global(Some(left)).build();
        match request.call() {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Ok(Answer { status: parts.status, headers: parts.headers, body: body.into_reader() })
            }
            Err(error) => Err(self.failed(url, &error)),
        }
    }

    /// What a failure of the client means.
    pub(super) fn failed(&self, url: &Uri, error: &ureq::Error) -> TransferError {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let words = match error {
            ureq::Error::Timeout(Timeout::Global | Timeout::PerCall) => {
                return self.time_up(url, "the answer was still coming".to_owned());
            }
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                format!("no connection within {}", seconds(self.limits.connect))
            }
            ureq::Error::Timeout(_) => format!("not a byte for {}", seconds(self.limits.idle)),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Other(error) => error.to_string(),
            other => other.to_string(),
        };
        // Which list decided is what somebody needs to know who has to add an authority.
        let about_trust = words.contains("certificate");
        connection(url, if about_trust { format!("{words} (trusted: {})", self.trusted) } else { words })
    }

    pub(super) fn time_up(&self, url: &Uri, words: String) -> TransferError {
        TransferError::TimeUp { url: shown(url), limit: self.limits.total, words }
    }
}

fn connection(url: &Uri, words: String) -> TransferError {
    TransferError::Connection { url: shown(url), words }
}

/// Where a redirect leads, if it may be followed.
fn target(from: &Uri, location: &str) -> Result<Uri, TransferError> {
    let refused = |why| TransferError::Redirect { from: shown(from), to: shown_location(location), why };
    let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority().map_or("", |a| a.as_str()));
    let location = location.split('#').next().unwrap_or_default();
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let absolute = match location {
        "" => return Err(refused("it names no place")),
        // A scheme is in front of the first slash, or nowhere.
        full if full.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => full.to_owned(),
        other_host if other_host.starts_with("//") => format!("{scheme}:{other_host}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        query if query.starts_with('?') => format!("{scheme}://{authority}{}{query}", from.path()),
        relative => format!("{scheme}://{authority}{folder}/{relative}"),
    };
    let to: Uri = absolute.parse().map_err(|_| refused("it is no URL"))?;
    match (scheme, to.scheme_str()) {
        ("https", Some("http")) => Err(refused("it would leave TLS")),
        (_, Some("http" | "https")) if to.host().is_some() => Ok(to),
        _ => Err(refused("it is no URL of a web server")),
    }
}

/// Cut off only after what is secret is gone.
fn shown_location(location: &str) -> String {
    const SHOWN: usize = 80;
    let text = shown_text(&location.as_bytes().escape_ascii().to_string());
    if text.chars().count() > SHOWN { format!("{}…", text.chars().take(SHOWN).collect::<String>()) } else { text }
}

/// The list of authorities, with words for it.
fn authorities(files: &Files) -> (String, RootCerts) {
    for path in AUTHORITIES {
        let Ok(Some(text)) = files.read(Path::new(path)) else { continue };
        let found: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            return (format!("the node's {path}"), RootCerts::new_with_certs(&found));
        }
    }
    ("Mozilla's list in this program, the node has none".to_owned(), RootCerts::WebPki)
}

/// Names are resolved by [`Names`].
#[derive(Debug)]
struct Resolving {
    names: Names,
    connect: Duration,
}

impl Resolver for Resolving {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let left = (*timeout.after).min(self.connect);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses =
            self.names.resolve(host, Instant::now() + left).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let mut all = self.empty();
        for address in addresses {
            // As many as there is room for.
            let _ = all.try_push(SocketAddr::new(address, port));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://other/x", "https://other/x")]
    #[case("//other/x", "https://other/x")]
    #[case("/x?y#z", "https://host:1/x?y")]
    #[case("x:y", "refused")]
    #[case("x/y", "https://host:1/a/x/y")]
    #[case("?q=http://x", "https://host:1/a/b?q=http://x")]
    #[case("http://other/x", "refused")]
    #[case("ftp://other/x", "refused")]
    #[case("", "refused")]
    fn a_redirect_is_followed_where_it_may(#[case] location: &str, #[case] expected: &str) {
        let found = target(&"https://host:1/a/b?c".parse().unwrap(), location);
        assert_eq!(found.map_or("refused".to_owned(), |url| url.to_string()), expected);
    }

    #[test]
    fn a_redirect_out_of_tls_says_so() {
        let error = target(&"https://host/a".parse().unwrap(), "http://other/x?secret").unwrap_err();
        assert_eq!(
            error.to_string(),
            "https://host/a: redirected to http://other/x?…, which is not followed: it would leave TLS"
        );
    }

    #[test]
    fn a_node_with_a_list_of_authorities_is_trusted_with_it() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path());
        assert_eq!(authorities(&files).0, "Mozilla's list in this program, the node has none");
        std::fs::create_dir_all(root.path().join("etc/ssl")).unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(root.path().join("etc/ssl/cert.pem"), pem).unwrap();
        assert_eq!(authorities(&files).0, "the node's /etc/ssl/cert.pem");
    }
}
