//! One download: read as a stream that reconnects where it broke, hashed as it comes, and never longer than agreed.

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE};
use ureq::http::{StatusCode, Uri};

use super::archive::{Begins, is_usable};
use super::client::{Answer, Client};
use super::hex;
use super::remote::shown;
use super::transfer::TransferError;
use crate::host::Files;
use crate::host::files::{Attributes, FileError};

/// How much of the beginning is kept, to tell what came.
const BEGIN: usize = 512;

/// What counts as getting on: a connection that brings this much may break once more.
const STEP: u64 = 1 << 20;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is to be fetched.
pub struct Request<'a> {
    /// Where.
    pub url: &'a Uri,
    /// What is said besides.
    pub headers: &'a [(HeaderName, String)],
    /// SHA-256 of what should come, in lower-case hexadecimal digits.
    pub sha256: &'a str,
    /// The most bytes that may come.
    pub limit: u64,
}

/// Around a download.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// Is told how far it is.
    pub progress: &'a dyn Fn(&str),
    /// Waits between two tries.
    pub pause: &'a dyn Fn(Duration),
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It did not come, or something else did.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// It could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Downloads to a file of the node and compares what came with the digest.
///
/// # Errors
/// If it does not come, is not what was ordered, or cannot be written.
pub fn download(
    surroundings: Surroundings<'_>,
    request: &Request<'_>,
    files: &Files,
    to: &Path,
) -> Result<(), DownloadError> {
    let mut stream = Stream::new(surroundings, request);
    let written = files.write_new(to, Attributes::PRIVATE, &mut stream);
    match (stream.failure.take(), written) {
        (Some(failure), _) => Err(failure.into()),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => stream.compare().map_err(Into::into),
    }
}

/// The bytes of a download, whatever happens in between.
struct Stream<'a> {
    surroundings: Surroundings<'a>,
    request: &'a Request<'a>,
    body: Option<BodyReader<'static>>,
    hasher: Sha256,
    begin: Vec<u8>,
    position: u64,
    total: Option<u64>,
    validator: Option<String>,
    failures: u32,
    stuck_at: u64,
    started: Instant,
    told: Instant,
    failure: Option<TransferError>,
}

impl<'a> Stream<'a> {
    fn new(surroundings: Surroundings<'a>, request: &'a Request<'a>) -> Self {
        let now = Instant::now();
        Self {
            surroundings,
            request,
            body: None,
            hasher: Sha256::new(),
            begin: Vec::new(),
            position: 0,
            total: None,
            validator: None,
            failures: 0,
            stuck_at: 0,
            started: now,
            told: now,
            failure: None,
        }
    }

    /// The next bytes; 0 at the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, TransferError> {
        loop {
            let read = match &mut self.body {
                Some(body) => body.read(buffer),
                None => match self.connect() {
                    Ok(body) => {
                        self.body = Some(body);
                        continue;
                    }
                    Err(error) => {
                        self.rest(error)?;
                        continue;
                    }
                },
            };
            match read {
                Ok(0) if self.total.is_none_or(|total| self.position == total) => return Ok(0),
                Ok(0) => self.rest(self.broke(&ureq::Error::Io(io::ErrorKind::UnexpectedEof.into())))?,
                Ok(count) => {
                    self.take_in(&buffer[..count])?;
                    return Ok(count);
                }
                Err(error) => self.rest(self.broke(&error.into()))?,
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.position += bytes.len() as u64;
        if self.position > self.request.limit {
            return Err(self.too_large());
        }
        self.hasher.update(bytes);
        self.begin.extend(bytes.iter().take(BEGIN - self.begin.len()));
        if self.told.elapsed() >= self.surroundings.client.limits().tell_every {
            self.told = Instant::now();
            (self.surroundings.progress)(&self.so_far());
        }
        Ok(())
    }

    fn so_far(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let of = self.total.map(|total| format!(" of {:.1}", mib(total))).unwrap_or_default();
        let rate = mib(self.position) / self.started.elapsed().as_secs_f64().max(0.001);
        format!("{}: {:.1}{of} MiB, {rate:.1} MiB/s", shown(self.request.url), mib(self.position))
    }

    /// Asks for what is still missing.
    fn connect(&mut self) -> Result<BodyReader<'static>, TransferError> {
        let mut headers = self.request.headers.to_vec();
        if let Some(validator) = self.validator.as_ref().filter(|_| self.position > 0) {
            headers.push((RANGE, format!("bytes={}-", self.position)));
            headers.push((IF_RANGE, validator.clone()));
        }
        let answer = self.surroundings.client.get(self.request.url, &headers)?;
        match answer.status {
            StatusCode::OK => {
                self.total = length(&answer);
                self.check_total()?;
                self.validator = validator(&answer);
                self.skip(answer.body)
            }
            StatusCode::PARTIAL_CONTENT if self.continues(&answer) => {
                self.total = length(&answer).map(|rest| self.position + rest);
                self.check_total()?;
                Ok(answer.body)
            }
            StatusCode::PARTIAL_CONTENT => {
                self.validator = None;
                Err(self.connection("it answers with another range than asked for".to_owned()))
            }
            _ => Err(answer.refused(self.request.url)),
        }
    }

    fn continues(&self, answer: &Answer) -> bool {
        let range = answer.header(&CONTENT_RANGE).unwrap_or_default();
        range.starts_with(&format!("bytes {}-", self.position))
    }

    fn check_total(&self) -> Result<(), TransferError> {
        let fits = self.total.is_none_or(|total| total <= self.request.limit);
        if fits { Ok(()) } else { Err(self.too_large()) }
    }

    /// Where a server cannot continue, what is there already is read again and must be the same.
    fn skip(&self, body: BodyReader<'static>) -> Result<BodyReader<'static>, TransferError> {
        if self.position == 0 {
            return Ok(body);
        }
        let mut again = Hashing(Sha256::new());
        let mut before = body.take(self.position);
        let count = io::copy(&mut before, &mut again).map_err(|error| self.broke(&error.into()))?;
        if count == self.position && again.0.finalize() == self.hasher.clone().finalize() {
            Ok(before.into_inner())
        } else {
            Err(TransferError::Changed(shown(self.request.url)))
        }
    }

    /// After a failure: waits before the next try, if there is to be one.
    fn rest(&mut self, error: TransferError) -> Result<(), TransferError> {
        self.body = None;
        if self.position >= self.stuck_at + STEP {
            self.failures = 0;
        }
        self.stuck_at = self.position;
        self.failures += 1;
        let limits = self.surroundings.client.limits();
        if !error.is_passing() || self.failures >= limits.tries {
            return Err(error);
        }
        let pause = limits.pause.saturating_mul(1 << (self.failures - 1).min(16)).min(PAUSE_MAX);
        if pause >= self.surroundings.client.time_left() {
            return Err(self.surroundings.client.time_up(self.request.url, error.to_string()));
        }
        (self.surroundings.progress)(&format!("{error}: trying again in {} s", pause.as_secs()));
        (self.surroundings.pause)(pause);
        Ok(())
    }

    fn broke(&self, error: &ureq::Error) -> TransferError {
        match self.surroundings.client.failed(self.request.url, error) {
            TransferError::Connection { words, .. } => {
                let words = format!("the connection broke after {} bytes: {words}", self.position);
                self.connection(words)
            }
            other => other,
        }
    }

    fn connection(&self, words: String) -> TransferError {
        TransferError::Connection { url: shown(self.request.url), words }
    }

    fn too_large(&self) -> TransferError {
        TransferError::TooLarge { url: shown(self.request.url), limit: self.request.limit }
    }

    /// Compares what came with what was ordered.
    fn compare(self) -> Result<(), TransferError> {
        let found = hex(&self.hasher.finalize());
        if found == self.request.sha256 {
            return Ok(());
        }
        let mut what = format!("{} bytes", self.position);
        if !is_usable(&self.begin) {
            what = format!("{what}, not an ELF binary nor an archive: {}", Begins::with(&self.begin));
        }
        let (url, expected) = (shown(self.request.url), self.request.sha256.to_owned());
        Err(TransferError::Digest { url, expected, found, what })
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|failure| {
            let error = io::Error::other(failure.to_string());
            self.failure = Some(failure);
            error
        })
    }
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(&CONTENT_LENGTH)?.parse().ok()
}

/// What tells that the content is still the same: RFC 9110 wants a strong one for ranges.
fn validator(answer: &Answer) -> Option<String> {
    let strong = answer.header(&ETAG).filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| answer.header(&LAST_MODIFIED)).map(str::to_owned)
}
