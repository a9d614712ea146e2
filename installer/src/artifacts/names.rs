//! Names to addresses. The C library's own way loads the node's name service libraries into this static program,
//! which crashes where the two C libraries differ; so the file of hosts is read and name servers are asked here.
//!
//! As in resolv.conf(5): `nameserver`, `search`, `options ndots:`. DNS is RFC 1035.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 53;

/// How long one question waits for its answer; resolv.conf(5)'s default.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often every server is asked; resolv.conf(5)'s default.
const ROUNDS: usize = 2;

/// Name servers that are asked: `MAXNS` of resolv.conf(5).
const SERVERS_MAX: usize = 3;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Parts of a name: RFC 1035's 255 bytes hold no more.
const LABELS_MAX: usize = 128;

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

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    /// Too long for a datagram.
    Truncated,
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
        let mut addresses = self.ask(name, TYPE_A, deadline)?;
        match self.ask(name, TYPE_AAAA, deadline) {
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

    /// The addresses of one type; none if there is no such name.
    fn ask(&self, name: &str, kind: u16, deadline: Instant) -> Result<Vec<IpAddr>, NameError> {
        let no_answer = |words: String| NameError::NoAnswer { name: name.to_owned(), words };
        let Some(question) = question(name, kind) else {
            return Err(no_answer("it is no name of a host".to_owned()));
        };
        let mut words = "no time is left".to_owned();
        for server in (0..ROUNDS).flat_map(|_| &self.servers) {
            let left = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
            if left.is_zero() {
                break;
            }
            match exchange(*server, &question, left) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => words = format!("the name server {server}: {error}"),
            }
        }
        Err(no_answer(words))
    }
}

fn server(word: &str) -> Option<SocketAddr> {
    // A link-local address may come with its interface, which std does not read: another server will do.
    word.parse().ok().map(|address: IpAddr| SocketAddr::new(address, PORT))
}

fn exchange(server: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Vec<IpAddr>> {
    match over_udp(server, question, patience)? {
        Answer::Addresses(addresses) => Ok(addresses),
        Answer::Truncated => match over_tcp(server, question, patience)? {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Truncated => Err(io::Error::other("the answer is cut off even over TCP")),
        },
    }
}

fn over_udp(server: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let asked = with_id(question)?;
    socket.send(&asked)?;
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            other => other?,
        };
        // Anything else is not the answer to our question: somebody guesses.
        if let Some(answer) = answer(&asked, &buffer[..length]) {
            return answer;
        }
    }
}

fn over_tcp(server: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let asked = with_id(question)?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &asked].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply)?;
    answer(&asked, &reply).unwrap_or_else(|| Err(io::Error::other("it answers another question")))
}

/// A question without its id; `None` if the name is none.
fn question(name: &str, kind: u16) -> Option<Vec<u8>> {
    // The flag: recursion is wanted. One question.
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    (name.is_ascii() && name.len() <= 253).then_some(message)
}

fn with_id(question: &[u8]) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok([&id, &question[2..]].concat())
}

/// Reads a reply; `None` if it is not one to this question.
fn answer(asked: &[u8], reply: &[u8]) -> Option<io::Result<Answer>> {
    const NO_ERROR: u8 = 0;
    const NO_SUCH_NAME: u8 = 3;
    let flags = (*reply.get(2)?, *reply.get(3)?);
    let is_reply = flags.0 & 0x80 != 0 && reply.get(..2)? == &asked[..2];
    let echoed = reply.get(12..asked.len())?.eq_ignore_ascii_case(&asked[12..]) && reply.get(4..6)? == [0, 1];
    if !is_reply || !echoed {
        return None;
    }
    if flags.0 & 0x02 != 0 {
        return Some(Ok(Answer::Truncated));
    }
    Some(match flags.1 & 0x0f {
        NO_ERROR => {
            records(reply, asked.len()).map(Answer::Addresses).ok_or_else(|| io::Error::other("the answer is damaged"))
        }
        NO_SUCH_NAME => Ok(Answer::Addresses(Vec::new())),
        code => Err(io::Error::other(format!("it refuses to answer (code {code})"))),
    })
}

/// The addresses in a reply. Whose they are need not be followed: a recursive server answers one question.
fn records(reply: &[u8], mut at: usize) -> Option<Vec<IpAddr>> {
    let half = |at: usize| Some(u16::from_be_bytes(reply.get(at..at + 2)?.try_into().ok()?));
    let mut addresses = Vec::new();
    for _ in 0..half(6)? {
        at = after_name(reply, at)?;
        let (kind, length) = (half(at)?, usize::from(half(at + 8)?));
        let data = reply.get(at + 10..at + 10 + length)?;
        match kind {
            TYPE_A => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            TYPE_AAAA => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(addresses)
}

/// Where a name ends: after a zero length, or after a pointer.
fn after_name(reply: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..LABELS_MAX {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rstest::rstest;

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

    /// The question as a reply with this code and these records.
    fn reply(asked: &[u8], code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut reply = asked.to_vec();
        reply[2] = 0x81;
        reply[3] = 0x80 | code;
        reply[7] = u8::try_from(records.len()).unwrap();
        reply.extend(records.concat());
        reply
    }

    fn one_address(asked: &[u8]) -> Vec<u8> {
        let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 12];
        let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
        reply(asked, 0, &[&alias, &address])
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

    #[test]
    fn a_reply_to_another_question_is_none() {
        let asked = with_id(&question("x.example", TYPE_A).unwrap()).unwrap();
        let mut other = one_address(&asked);
        other[0] ^= 1;
        assert!(answer(&asked, &other).is_none());
        let mut other = one_address(&asked);
        other[13] ^= 1;
        assert!(answer(&asked, &other).is_none());
    }

    #[test]
    fn a_reply_that_is_cut_anywhere_is_no_address() {
        let asked = with_id(&question("x.example", TYPE_A).unwrap()).unwrap();
        let whole = one_address(&asked);
        for length in 0..whole.len() {
            let read = answer(&asked, &whole[..length]);
            assert!(!matches!(read, Some(Ok(Answer::Addresses(found))) if !found.is_empty()), "{length}");
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_asked_for_over_tcp() {
        let asked = with_id(&question("x.example", TYPE_A).unwrap()).unwrap();
        let mut cut = reply(&asked, 0, &[]);
        cut[2] |= 2;
        assert!(matches!(answer(&asked, &cut), Some(Ok(Answer::Truncated))));
    }

    #[rstest]
    #[case("")]
    #[case("a..b")]
    #[case("ä.example")]
    fn what_is_no_name_is_not_asked_for(#[case] name: &str) {
        assert_eq!(question(name, TYPE_A), None);
    }
}
