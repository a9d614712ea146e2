//! A container's standard descriptors: containerd's FIFOs, given to the process itself. Nothing is copied.

use std::fs::{self, File};
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::OFlag;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;

/// Where containerd wants a container's input and output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StdioPaths {
    /// Standard input; empty for none.
    pub(crate) stdin: String,
    /// Standard output; empty for none.
    pub(crate) stdout: String,
    /// Standard error; empty for none.
    pub(crate) stderr: String,
}

/// Why a descriptor cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    /// It cannot be opened.
    #[error("opening the container's input or output {path}: {error}")]
    Open { path: PathBuf, error: io::Error },
    /// A kind of output that this shim does not write.
    #[error("the output {0:?} is not supported by this runtime; it writes to FIFOs and to file:// paths")]
    Unsupported(String),
}

/// An output: what the process writes to, and what keeps it open.
#[derive(Debug)]
pub(crate) struct Output {
    /// For the process.
    pub(crate) writer: File,
    /// Kept by the shim: as long as a FIFO has a reader, a restart of containerd is no end of it. Nothing is read
    /// from it.
    pub(crate) keeper: Option<File>,
}

/// Opens an output of containerd's.
///
/// # Errors
/// If it cannot be opened, or is a logging program (`binary://`).
pub(crate) fn output(address: &str) -> Result<Output, StdioError> {
    let path = match address.split_once("://") {
        None if address.is_empty() => Path::new("/dev/null"),
        None => Path::new(address),
        Some(("fifo" | "file", path)) => Path::new(path.split('?').next().unwrap_or(path)),
        Some(_) => return Err(StdioError::Unsupported(address.to_owned())),
    };
    let open_error = |error| StdioError::Open { path: path.to_path_buf(), error };
    if !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        let writer = File::options().append(true).create(address.starts_with("file")).open(path).map_err(open_error)?;
        return Ok(Output { writer, keeper: None });
    }
    let keeper = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(open_error)?;
    // Does not block: the FIFO has a reader now.
    let writer = File::options().write(true).open(path).map_err(open_error)?;
    Ok(Output { writer, keeper: Some(keeper) })
}

/// An input, kept open: without a writer a guest would read its end before the first client has come.
#[derive(Debug)]
pub(crate) struct Input {
    /// The FIFO, open for writing; nothing is written to it.
    _keeper: File,
    clients: Option<Clients>,
}

/// Tells when a client has closed an input.
#[derive(Debug)]
pub(crate) struct Clients(OwnedFd);

/// The namespaces of CRI and of Docker, where a daemon is the client of every input.
const OF_DAEMONS: [&str; 2] = ["k8s.io", "moby"];

/// Opens an input of containerd's for as long as its clients need it. A daemon says when that ends: it is started again
/// while containers run, and its descriptors close with it. Elsewhere it ends when a client closes it as well: not all of
/// them (`ctr` with a short input) tell containerd.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn input(path: &str, namespace: &str) -> Result<Option<Input>, StdioError> {
    if path.is_empty() {
        return Ok(None);
    }
    // Before it is opened: a client waits for that, and then may be gone at once.
    let clients = if OF_DAEMONS.contains(&namespace) { None } else { Clients::of(path).ok() };
    let opened = File::options().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let keeper = opened.map_err(|error| StdioError::Open { path: path.into(), error })?;
    Ok(Some(Input { _keeper: keeper, clients }))
}

impl Input {
    /// Its clients, where they end it.
    pub(crate) fn take_clients(&mut self) -> Option<Clients> {
        self.clients.take()
    }
}

impl Clients {
    fn of(path: &str) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, path, WatchFlags::CLOSE_WRITE)?;
        Ok(Self(watch))
    }

    /// Waits until one has closed it, or forever if that cannot be told.
    pub(crate) async fn closed(self) {
        let Ok((_waiting, until)) = UnixStream::pair() else { return pending().await };
        let (tell, told) = oneshot::channel();
        // A thread, which ends with this future: to the event loop, a watch is no kind of file that it knows.
        let watching = thread::Builder::new().spawn(move || {
            let mut watched = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(&until, PollFlags::IN)];
            while poll(&mut watched, None) == Err(Errno::INTR) {}
            if watched[0].revents().contains(PollFlags::IN) {
                tell.send(()).ok();
            }
        });
        if watching.is_err() || told.await.is_err() {
            pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_fifo_without_a_reader_blocks_nobody_and_ends_with_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let Output { mut writer, keeper } = output(path.to_str().unwrap()).unwrap();
        let mut reader = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        writer.write_all(b"line").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line");
        assert!(keeper.is_some());
    }

    #[test]
    fn a_logging_program_is_refused_in_words() {
        assert!(output("binary:///bin/logger").unwrap_err().to_string().contains("FIFOs"));
    }

    #[test]
    fn no_output_is_the_null_device() {
        assert!(output("").unwrap().keeper.is_none());
    }

    /// A FIFO without clients, and what a guest reads from.
    fn fifo(dir: &Path) -> (String, File) {
        let path = dir.join("in");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let guest = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        (path.to_str().unwrap().to_owned(), guest)
    }

    #[tokio::test]
    async fn an_input_ends_with_the_client_that_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut guest) = fifo(dir.path());
        let mut input = input(&path, "default").unwrap().unwrap();
        let clients = input.take_clients().unwrap();
        File::options().write(true).open(&path).unwrap().write_all(b"line").unwrap();
        clients.closed().await;
        drop(input);
        let mut text = String::new();
        guest.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line");
    }

    #[tokio::test]
    async fn an_input_of_cri_survives_the_daemon_that_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut guest) = fifo(dir.path());
        let mut input = input(&path, "k8s.io").unwrap().unwrap();
        File::options().write(true).open(&path).unwrap().write_all(b"line").unwrap();
        assert!(input.take_clients().is_none());
        let mut text = String::new();
        let error = guest.read_to_string(&mut text).unwrap_err();
        assert_eq!((text.as_str(), error.kind()), ("line", io::ErrorKind::WouldBlock));
    }
}
