//! A web server in the test's own process that knows one file, and what it was asked for.

use std::io::{BufRead as _, BufReader, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may take with its question: a silent one must not keep the server from ending.
const PATIENCE: Duration = Duration::from_secs(10);

/// A web server; it ends when it is dropped.
pub(super) struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    path: String,
    content: Vec<u8>,
    asked: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl WebServer {
    /// Serves a file at an address of this machine, on a port of its own.
    pub(super) fn serving(address: Ipv4Addr, path: &str, content: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let asked = Mutex::default();
        let shared = Arc::new(Shared { path: path.to_owned(), content, asked, ended: AtomicBool::new(false) });
        let server = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || server.serve(&listener)));
        Ok(Self { address, shared, thread })
    }

    /// The file's URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.shared.path)
    }

    /// The first line of every request so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.asked().clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // It waits for a client: this is the last one.
        drop(TcpStream::connect(self.address));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the web server panicked");
        }
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if let Err(error) = client.and_then(|client| self.answer(&client)) {
                eprintln!("the web server: {error}");
            }
        }
    }

    fn answer(&self, mut client: &TcpStream) -> Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(client).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let found = request.split(' ').nth(1) == Some(self.path.as_str());
        self.asked().push(request);
        let (status, content) = if found { ("200 OK", self.content.as_slice()) } else { ("404 Not Found", &[][..]) };
        write!(client, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
        client.write_all(content)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
