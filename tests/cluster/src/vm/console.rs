//! What a machine and its emulator print.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use crate::tool;

/// A file without a name that both append to.
#[derive(Debug)]
pub(super) struct Console(File);

impl Console {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        // The emulator's own messages go to a copy of this descriptor, the machine's to another one.
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
        Ok(Self(file))
    }

    /// For a child's standard error.
    pub(super) fn output(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// A path by which other processes can open it as long as this value lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// All of it, without the terminal's control sequences.
    pub(super) fn text(&self) -> String {
        let length = self.0.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => plain(&String::from_utf8_lossy(&bytes)),
            Err(error) => format!("(the console cannot be read: {error})"),
        }
    }

    /// Its last lines.
    pub(super) fn tail(&self) -> String {
        tool::tail(&self.text(), 20)
    }
}

/// A text without carriage returns and escape sequences.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                // Parameters, then one letter that ends the sequence.
                while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
            '\u{1b}' | '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn colours_and_carriage_returns_are_taken_out() {
        assert_eq!(plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Started\r\n\u{1b}"), "[  OK  ] Started\n");
    }
}
