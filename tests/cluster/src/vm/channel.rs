//! The conversation with a machine's agent; `agent.sh` describes it.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use crate::session::{Session, WaitError};

/// How often an interruption is looked for while nothing is said.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the agent may take beside the command itself: a busy emulator is slow.
const GRACE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Problem {
    /// The other side is gone.
    Closed,
    /// Nothing came in time.
    TimedOut,
    /// A signal came.
    Interrupted(WaitError),
    /// The answer has another form.
    Garbled(String),
    /// The socket failed.
    Socket(io::Error),
}

/// A command to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The command, as words.
    pub(super) words: &'a [&'a str],
    /// Its standard input.
    pub(super) input: &'a [u8],
    /// How long it may take, in whole seconds.
    pub(super) limit: Duration,
}

/// Our end.
pub(super) struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    last: u64,
    /// After a problem nobody knows what the next byte belongs to.
    broken: bool,
    session: Session,
}

impl Channel {
    /// A channel over this socket.
    pub(super) fn new(stream: UnixStream, session: &Session) -> io::Result<Self> {
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        stream.set_write_timeout(Some(LOOK_EVERY))?;
        Ok(Self { stream, received: Vec::new(), last: 0, broken: false, session: session.clone() })
    }

    /// Waits for the agent's first word.
    pub(super) fn greet(&mut self, limit: Duration) -> Result<(), Problem> {
        let line = self.line(Instant::now() + limit)?;
        if line == "ready" { Ok(()) } else { Err(Problem::Garbled(line)) }
    }

    /// Runs a command.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Result<Output, Problem> {
        if self.broken {
            return Err(Problem::Closed);
        }
        let answer = self.converse(request);
        self.broken = answer.is_err();
        answer
    }

    fn converse(&mut self, request: &Request<'_>) -> Result<Output, Problem> {
        self.last += 1;
        let until = Instant::now() + request.limit + GRACE;
        self.send(&message(self.last, request), until)?;
        let mut line = self.line(until)?;
        // The agent was started anew: by hand, or because it failed.
        while line == "ready" {
            line = self.line(until)?;
        }
        let answer = Answer::parse(&line).filter(|answer| answer.id == self.last).ok_or(Problem::Garbled(line))?;
        let stdout = self.bytes(answer.output, until)?;
        let stderr = self.bytes(answer.errors, until)?;
        Ok(Output { status: ExitStatus::from_raw(answer.status << 8), stdout, stderr })
    }

    fn send(&mut self, mut bytes: &[u8], until: Instant) -> Result<(), Problem> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => self.go_on(error, until)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, until: Instant) -> Result<String, Problem> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes(end + 1, until)?;
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.receive(until)?;
        }
    }

    fn bytes(&mut self, count: usize, until: Instant) -> Result<Vec<u8>, Problem> {
        while self.received.len() < count {
            self.receive(until)?;
        }
        Ok(self.received.drain(..count).collect())
    }

    fn receive(&mut self, until: Instant) -> Result<(), Problem> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Problem::Closed),
            Ok(count) => {
                self.received.extend(buffer.iter().take(count));
                Ok(())
            }
            Err(error) => self.go_on(error, until),
        }
    }

    /// Whether to try again after this error.
    fn go_on(&self, error: io::Error, until: Instant) -> Result<(), Problem> {
        self.session.check().map_err(Problem::Interrupted)?;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut if Instant::now() >= until => Err(Problem::TimedOut),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Err(Problem::Closed),
            _ => Err(Problem::Socket(error)),
        }
    }
}

/// A request as it is sent.
fn message(id: u64, request: &Request<'_>) -> Vec<u8> {
    let script = script(request.words);
    let seconds = request.limit.as_secs().max(1);
    let mut message = format!("{id} {seconds} {} {}\n{script}", script.len(), request.input.len()).into_bytes();
    message.extend(request.input);
    message
}

/// A shell script that becomes a command.
fn script(words: &[&str]) -> String {
    words.iter().fold("exec".to_owned(), |mut script, word| {
        let _ = write!(script, " '{}'", word.replace('\'', r"'\''"));
        script
    })
}

/// The first line of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    id: u64,
    status: i32,
    output: usize,
    errors: usize,
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let answer = Self {
            id: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok().filter(|status| (0..=255).contains(status))?,
            output: words.next()?.parse().ok()?,
            errors: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(answer)
    }
}

#[cfg(test)]
mod tests;
