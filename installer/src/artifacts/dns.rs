//! One question to one name server: DNS as in RFC 1035, addresses only.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const CLASS_IN: u16 = 1;

/// Parts of a name: RFC 1035's 255 bytes hold no more.
const LABELS_MAX: usize = 128;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of IPv4.
    A = 1,
    /// Addresses of IPv6 (RFC 3596).
    Aaaa = 28,
}

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    /// Too long for a datagram.
    Truncated,
}

/// Asks a server for the addresses of a name; none if there is no such name.
///
/// # Errors
/// If the name is none, or the server gives no usable answer in time.
pub fn ask(server: SocketAddr, name: &str, kind: Kind, patience: Duration) -> io::Result<Vec<IpAddr>> {
    let question = question(name, kind).ok_or_else(|| io::Error::other("it is no name of a host"))?;
    match over_udp(server, &question, patience)? {
        Answer::Addresses(addresses) => Ok(addresses),
        Answer::Truncated => match over_tcp(server, &question, patience)? {
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
fn question(name: &str, kind: Kind) -> Option<Vec<u8>> {
    // The flag: recursion is wanted. One question.
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend((kind as u16).to_be_bytes());
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
    const A: u16 = Kind::A as u16;
    const AAAA: u16 = Kind::Aaaa as u16;
    let half = |at: usize| Some(u16::from_be_bytes(reply.get(at..at + 2)?.try_into().ok()?));
    let mut addresses = Vec::new();
    for _ in 0..half(6)? {
        at = after_name(reply, at)?;
        let (kind, length) = (half(at)?, usize::from(half(at + 8)?));
        let data = reply.get(at + 10..at + 10 + length)?;
        match kind {
            A => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            AAAA => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
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
pub(super) mod tests {
    use std::net::TcpListener;
    use std::thread;

    use rstest::rstest;

    use super::*;

    /// The question as a reply with this code and these records.
    pub(crate) fn reply(asked: &[u8], code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut reply = asked.to_vec();
        reply[2] = 0x81;
        reply[3] = 0x80 | code;
        reply[7] = u8::try_from(records.len()).unwrap();
        reply.extend(records.concat());
        reply
    }

    pub(crate) fn one_address(asked: &[u8]) -> Vec<u8> {
        let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 12];
        let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
        reply(asked, 0, &[&alias, &address])
    }

    #[test]
    fn a_reply_to_another_question_is_none() {
        let asked = with_id(&question("x.example", Kind::A).unwrap()).unwrap();
        let mut other = one_address(&asked);
        other[0] ^= 1;
        assert!(answer(&asked, &other).is_none());
        let mut other = one_address(&asked);
        other[13] ^= 1;
        assert!(answer(&asked, &other).is_none());
    }

    #[test]
    fn a_reply_that_is_cut_anywhere_is_no_address() {
        let asked = with_id(&question("x.example", Kind::A).unwrap()).unwrap();
        let whole = one_address(&asked);
        for length in 0..whole.len() {
            let read = answer(&asked, &whole[..length]);
            assert!(!matches!(read, Some(Ok(Answer::Addresses(found))) if !found.is_empty()), "{length}");
        }
    }

    /// Reads one question over TCP and answers it.
    fn serve_once(listener: &TcpListener) {
        let (mut client, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut asked = vec![0; u16::from_be_bytes(length).into()];
        client.read_exact(&mut asked).unwrap();
        let reply = one_address(&asked);
        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
        client.write_all(&[&length[..], &reply].concat()).unwrap();
    }

    #[test]
    fn an_answer_that_is_too_long_is_asked_for_over_tcp() {
        // A port that is free for both.
        let both = || {
            let listener = TcpListener::bind("127.0.0.1:0").ok()?;
            let socket = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
            Some((listener, socket))
        };
        let (listener, socket) = std::iter::repeat_with(both).find_map(|both| both).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let mut cut = reply(&buffer[..length], 0, &[]);
            cut[2] |= 2;
            socket.send_to(&cut, from).unwrap();
            serve_once(&listener);
        });
        let found = ask(address, "x.example", Kind::A, Duration::from_secs(5)).unwrap();
        assert_eq!(found, [IpAddr::from([192, 0, 2, 7])]);
        server.join().unwrap();
    }

    #[rstest]
    #[case("")]
    #[case("a..b")]
    #[case("ä.example")]
    fn what_is_no_name_is_not_asked_for(#[case] name: &str) {
        assert_eq!(question(name, Kind::A), None);
    }
}
