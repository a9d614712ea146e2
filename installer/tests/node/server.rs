//! A web server on this machine's loopback: it plays what a test says, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut_after: Option<usize>,
    stall_after: Option<usize>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302, "").with("Location", to)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Closes the connection after so many bytes of the body.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Sends nothing more after so many bytes of the body, until the client goes.
    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.stall_after = Some(bytes);
        self
    }

    fn send(&self, to: &mut dyn Stream) -> std::io::Result<()> {
        write!(to, "HTTP/1.1 {} Played\r\nConnection: close\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        if !self.headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
            write!(to, "Content-Length: {}\r\n", self.body.len())?;
        }
        to.write_all(b"\r\n")?;
        to.write_all(&self.body[..self.cut_after.or(self.stall_after).unwrap_or(self.body.len())])?;
        to.flush()?;
        if self.stall_after.is_some() {
            // The end of the stream: the client has given up.
            while to.read(&mut [0; 64])? > 0 {}
        }
        Ok(())
    }
}

type Play = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// A connection, with TLS or without.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Vouches for a server on this machine's loopback.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { certificate, key }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn config(&self) -> Arc<rustls::ServerConfig> {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![self.certificate.der().clone()], key.into()).unwrap())
    }
}

/// A server that ends with its test.
pub(crate) struct Server {
    address: SocketAddr,
    with_tls: bool,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn playing(play: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        Self::start(Box::new(play), None)
    }

    /// Answers everything with this.
    pub(crate) fn serving(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::playing(move |_| Answer::ok(body.clone()))
    }

    pub(crate) fn with_tls(authority: &Authority, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::playing_with_tls(authority, move |_| Answer::ok(body.clone()))
    }

    pub(crate) fn playing_with_tls(authority: &Authority, play: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        Self::start(Box::new(play), Some(authority.config()))
    }

    fn start(mut play: Play, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, end) = (Arc::clone(&asked), Arc::clone(&ended));
        let with_tls = tls.is_some();
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let mut stream: Box<dyn Stream> = match &tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(tls)).unwrap();
                        Box::new(rustls::StreamOwned::new(connection, stream))
                    }
                };
                let Some(request) = read(&mut stream) else { continue };
                let answer = play(&request);
                log.lock().unwrap().push(request);
                // A client that goes early is what some tests are about.
                answer.send(&mut stream).ok();
            }
        });
        Self { address, with_tls, asked, ended, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.with_tls { "https" } else { "http" };
        format!("{scheme}://{}/{path}", self.address)
    }

    /// Everything that was asked until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // It waits for a client.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn read(stream: &mut dyn Stream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, ..Asked::default() };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        asked.headers.insert(name.to_lowercase(), value.to_owned());
    }
    Some(asked)
}

/// A proxy that leads every client to one server.
pub(crate) struct Tunnel {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// One client comes through.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            log.lock().unwrap().push(lines.next().unwrap().unwrap());
            while !lines.next().unwrap().unwrap().is_empty() {}
            client.write_all(b"HTTP/1.1 200 Played\r\n\r\n").unwrap();
            let mut upstream = TcpStream::connect(server).unwrap();
            let (mut request, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut request, &mut to));
            std::io::copy(&mut upstream, &mut client).ok();
        });
        Self { address, asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
