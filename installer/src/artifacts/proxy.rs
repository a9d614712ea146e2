//! Which server is reached through which proxy: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, as Go programs read them
//! (golang.org/x/net/http/httpproxy), because those are what Kubernetes' own pieces are.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// The proxies of this process.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    exceptions: Vec<Exception>,
}

/// A server that is reached directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network(IpAddr, u8),
    /// The name, and whether only what is below it.
    Domain(String, bool),
    /// With a port.
    Server(String, u16),
}

impl fmt::Debug for Proxies {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |proxy: &Option<String>| proxy.is_some();
        f.debug_struct("Proxies").field("http", &set(&self.http)).field("https", &set(&self.https)).finish()
    }
}

impl Proxies {
    /// Reads the environment; names in capitals count first.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let both = [name.to_owned(), name.to_lowercase()];
            both.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty())
        };
        let exceptions = read("NO_PROXY").unwrap_or_default();
        let words = exceptions.split(',').map(str::trim).filter(|word| !word.is_empty());
        Self { http: read("HTTP_PROXY"), https: read("HTTPS_PROXY"), exceptions: words.map(Exception::of).collect() }
    }

    /// The proxy for a URL, as it stands in the environment; `None`: the server is reached directly.
    #[must_use]
    pub fn for_url(&self, url: &Uri) -> Option<&str> {
        let https = url.scheme_str() == Some("https");
        let proxy = if https { &self.https } else { &self.http };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let direct = is_loopback(&host) || self.exceptions.iter().any(|exception| exception.covers(&host, port));
        proxy.as_deref().filter(|_| !direct)
    }
}

/// Whether a host is this machine itself.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Exception {
    fn of(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        if word == "*" {
            return Self::All;
        }
        if let Some((address, bits)) = word.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse(), bits.parse())
        {
            return Self::Network(address, bits);
        }
        if let Ok(address) = word.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Self::Network(address, if address.is_ipv4() { 32 } else { 128 });
        }
        if let Some((host, port)) = word.rsplit_once(':')
            && let Ok(port) = port.parse()
        {
            return Self::Server(host.to_owned(), port);
        }
        let below = word.starts_with('.') || word.starts_with("*.");
        Self::Domain(word.trim_start_matches('*').trim_start_matches('.').to_owned(), below)
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, bits) => host.parse().is_ok_and(|address| is_within(address, *network, *bits)),
            Self::Domain(domain, below) => {
                let inside = host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
                inside || (!below && host == domain)
            }
            Self::Server(server, its_port) => host == server && port == *its_port,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            one.to_bits() & mask == other.to_bits() & mask
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            one.to_bits() & mask == other.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn proxy(no_proxy: &str, url: &str) -> Option<String> {
        let proxies = Proxies::of(|name| match name {
            "http_proxy" => Some("http://plain:1".to_owned()),
            "HTTPS_PROXY" => Some("http://secure:2".to_owned()),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        });
        proxies.for_url(&url.parse().unwrap()).map(str::to_owned)
    }

    #[test]
    fn each_scheme_has_its_own_proxy() {
        assert_eq!(proxy("", "http://a.b/"), Some("http://plain:1".into()));
        assert_eq!(proxy("", "https://a.b/"), Some("http://secure:2".into()));
    }

    #[rstest]
    #[case("*", "https://a.b/")]
    #[case("a.b", "https://a.b/")]
    #[case("A.B", "https://c.a.b/")]
    #[case("x, .a.b", "https://c.a.b/")]
    #[case("*.a.b", "https://c.a.b/")]
    #[case("a.b:8443", "https://a.b:8443/")]
    #[case("10.0.0.0/8", "http://10.1.2.3:80/")]
    #[case("10.1.2.3", "http://10.1.2.3/")]
    #[case("fd00::/8", "http://[fd12::1]/")]
    #[case("", "http://127.0.0.9/")]
    #[case("", "http://[::1]:5000/")]
    #[case("", "http://localhost/")]
    fn an_exception_is_reached_directly(#[case] no_proxy: &str, #[case] url: &str) {
        assert_eq!(proxy(no_proxy, url), None);
    }

    #[rstest]
    #[case(".a.b", "https://a.b/")]
    #[case("a.b", "https://xa.b/")]
    #[case("a.b:8443", "https://a.b/")]
    #[case("10.0.0.0/8", "https://11.0.0.1/")]
    #[case("10.0.0.0/8", "https://10.example/")]
    fn what_is_no_exception_goes_through_the_proxy(#[case] no_proxy: &str, #[case] url: &str) {
        assert!(proxy(no_proxy, url).is_some());
    }

    #[test]
    fn a_proxys_password_is_not_printed() {
        let proxies = Proxies::of(|_| Some("http://user:secret@proxy".to_owned()));
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
