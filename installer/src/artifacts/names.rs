//! Names to addresses. The C library's own way loads the node's name service libraries into this static program,
//! which crashes where the two C libraries differ; so the file of hosts is read and name servers are asked here.
//!
//! As in resolv.conf(5): `nameserver`, `search`, `options ndots:`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::dns::{self, Kind};

const PORT: u16 = 53;

/// How long one question waits for its answer; resolv.conf(5)'s default.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often every server is asked; resolv.conf(5)'s default.
const ROUNDS: usize = 2;

/// Name servers that are asked: `MAXNS` of resolv.conf(5).
const SERVERS_MAX: usize = 3;

/// How names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    hosts: Vec<(String, IpAddr)>,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nobody to ask.
    #[error("cannot resolve {0}: /etc/resolv.conf names no server")]
    NoServer(String),
    /// It does not exist, or has no address.
    #[error("there is no host {name}, say the name servers {}", servers.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Who was asked.
        servers: Vec<String>,
    },
    /// Nobody gave an answer.
    #[error("cannot resolve {name}: {words}")]
    NoAnswer {
        /// The name.
        name: String,
        /// The last server, and what happened.
        words: String,
    },
}

impl Names {
    /// Reads the texts of `/etc/resolv.conf` and `/etc/hosts`.
    #[must_use]
    pub fn of(resolv_conf: &str, hosts: &str) -> Self {
        let mut names = Self { ndots: 1, ..Self::default() };
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => names.servers.extend(words.next().and_then(server)),
                Some("search") => names.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    names.ndots = dots.unwrap_or(names.ndots);
                }
                _ => {}
            }
        }
        names.servers.truncate(SERVERS_MAX);
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            if let Some(address) = words.next().and_then(|word| word.parse().ok()) {
                names.hosts.extend(words.map(|name| (name.to_ascii_lowercase(), address)));
            }
        }
        names
    }

    /// The addresses of a host, those of IPv4 first: more clusters have it.
    ///
    /// # Errors
    /// If there are none, or nobody answers before `deadline`.
    pub fn resolve(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known: Vec<IpAddr> =
            self.hosts.iter().filter(|(name, _)| *name == host).map(|(_, address)| *address).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        if host == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if self.servers.is_empty() {
            return Err(NameError::NoServer(host));
        }
        let servers = self.servers.iter().map(ToString::to_string).collect();
        let mut trouble = NameError::Unknown { name: host.clone(), servers };
        for candidate in self.candidates(&host) {
            match self.addresses(&candidate, deadline) {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                // A domain of the list whose servers fail must not hide another one.
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    fn addresses(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
        let mut addresses = self.ask(name, Kind::A, deadline)?;
        match self.ask(name, Kind::Aaaa, deadline) {
            Ok(more) => addresses.extend(more),
            Err(error) if addresses.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(addresses)
    }

    /// The full names to try, in their order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(full) = host.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let at = if host.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(at, host.to_owned());
        names
    }

    /// The addresses of one kind; none if there is no such name.
    fn ask(&self, name: &str, kind: Kind, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
        let mut words = "no time is left".to_owned();
        for server in (0..ROUNDS).flat_map(|_| &self.servers) {
            let left = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
            if left.is_zero() {
                break;
            }
            match dns::ask(*server, name, kind, left) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => words = format!("the name server {server}: {error}"),
            }
        }
        Err(NameError::NoAnswer { name: name.to_owned(), words })
    }
}

fn server(word: &str) -> Option<SocketAddr> {
    // A link-local address may come with its interface, which std does not read: another server will do.
    word.parse().ok().map(|address: IpAddr| SocketAddr::new(address, PORT))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use rstest::rstest;

    use super::super::dns::tests::{one_address, reply};
    use super::*;

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    /// What is replied to a question.
    type Reply = fn(&[u8]) -> Vec<u8>;

    /// A name server that plays its part once per reply, by UDP.
    fn played(replies: Vec<Reply>) -> (SocketAddr, thread::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let server = thread::spawn(move || {
            for reply in replies {
                let mut buffer = [0; 512];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&reply(&buffer[..length]), from).unwrap();
            }
        });
        (address, server)
    }

    fn nothing(asked: &[u8]) -> Vec<u8> {
        reply(asked, 0, &[])
    }

    fn no_such_name(asked: &[u8]) -> Vec<u8> {
        reply(asked, 3, &[])
    }

    fn names(server: SocketAddr, search: &[&str]) -> Names {
        let search = search.iter().map(|domain| (*domain).to_owned()).collect();
        Names { servers: vec![server], search, ndots: 5, hosts: Vec::new() }
    }

    #[test]
    fn a_pods_files_are_read_as_the_c_library_reads_them() {
        let names = Names::of(
            "search a.svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions edns0 ndots:5\n",
            "# comment\n127.0.0.1 localhost\n192.0.2.1 Registry.example alias # more\n",
        );
        assert_eq!(names.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(names.candidates("x.y"), ["x.y.a.svc.cluster.local", "x.y.cluster.local", "x.y"]);
        assert_eq!(names.candidates("x.y."), ["x.y"]);
        assert_eq!(names.resolve("registry.EXAMPLE", soon()).unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[rstest]
    #[case("192.0.2.1", "192.0.2.1")]
    #[case("[2001:db8::1]", "2001:db8::1")]
    fn an_address_needs_no_server(#[case] host: &str, #[case] address: &str) {
        assert_eq!(Names::default().resolve(host, soon()).unwrap(), [address.parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_first_domain_that_has_the_name_wins() {
        let (server, thread) = played(vec![no_such_name, no_such_name, one_address, nothing]);
        let found = names(server, &["first.example", "second.example"]).resolve("x", soon()).unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        thread.join().unwrap();
    }

    #[test]
    fn a_name_that_nobody_has_is_refused_with_who_was_asked() {
        let (server, thread) = played(vec![no_such_name, no_such_name]);
        let error = names(server, &[]).resolve("x.example", soon()).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no host x.example, say the name servers {server}"));
        thread.join().unwrap();
    }

    #[test]
    fn a_server_that_fails_is_asked_again_and_then_quoted() {
        let (server, thread) = played(vec![|asked| reply(asked, 2, &[]), |asked| reply(asked, 2, &[])]);
        let error = names(server, &[]).resolve("x.example", soon()).unwrap_err();
        let expected = format!("cannot resolve x.example: the name server {server}: it refuses to answer (code 2)");
        assert_eq!(error.to_string(), expected);
        thread.join().unwrap();
    }
}
