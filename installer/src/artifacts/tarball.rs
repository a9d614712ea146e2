//! Reading a tar archive entry by entry, without unpacking anything.
//!
//! The extensions for long names are read here, because the `tar` crate would take them into memory at any size.

use std::collections::BTreeSet;
use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::compression::TooLarge;

/// The longest name: Linux' `PATH_MAX`, without the NUL byte.
const NAME_MAX: usize = 4095;

/// The longest part of a name: Linux' `NAME_MAX`.
const PART_MAX: usize = 255;

/// The longest list of extended attributes that is looked at.
const PAX_MAX: u64 = 64 * 1024;

/// Why an archive is not read any further.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// It is damaged, or compressed data is.
    #[error("it is damaged: {0}")]
    Damaged(io::Error),
    /// It unpacks to too much.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It has too many entries.
    #[error("it has more than {0} entries")]
    TooMany(u64),
    /// A name that no file should have.
    #[error("the name `{name}` {why}")]
    Name {
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was found could not be written.
    #[error(transparent)]
    File(#[from] crate::host::files::FileError),
}

/// How much of an archive is read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes, unpacked.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with this many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(String),
    /// Another name of this entry.
    Hardlink(String),
    /// Something that no archive of programs has any use for.
    Special(&'static str),
}

/// An entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its parts joined by `/`, without `.` and without `/` at either end.
    pub name: String,
    /// As it was written, escaped: for messages.
    pub written: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid and its like among them.
    pub mode: u32,
    /// Whether the name begins with `/` or has a part `..`.
    pub leaves: bool,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    sparse: bool,
    size: Option<u64>,
}

/// Calls `each` for every entry, in their order, with its content. Whether it goes on is for `each` to say.
///
/// # Errors
/// If the archive is damaged or beyond bounds, or `each` fails.
pub fn walk<E: From<TarballError>>(
    content: impl Read,
    bounds: Bounds,
    mut each: impl FnMut(&Header, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = Archive::new(content);
    let mut extensions = Extensions::default();
    let mut count = 0;
    for entry in archive.entries().map_err(read_error)?.raw(true) {
        let mut entry = entry.map_err(read_error)?;
        count += 1;
        if count > bounds.entries {
            return Err(TarballError::TooMany(bounds.entries).into());
        }
        if extensions.read(&mut entry)? {
            continue;
        }
        let header = header(&entry, std::mem::take(&mut extensions))?;
        each(&header, &mut entry)?;
    }
    Ok(())
}

impl Extensions {
    /// Takes in an entry that only describes the next one; whether it is such a one.
    fn read<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, TarballError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.name = Some(bounded(entry, NAME_MAX as u64 + 1)?),
            EntryType::GNULongLink => self.link = Some(bounded(entry, NAME_MAX as u64 + 1)?),
            EntryType::XHeader => self.read_pax(&bounded(entry, PAX_MAX)?)?,
            // Comments of `git archive` and their like: nothing here depends on them.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_pax(&mut self, records: &[u8]) -> Result<(), TarballError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(TarballError::Damaged)?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok()),
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of an entry that describes another.
fn bounded<R: Read>(entry: &mut Entry<'_, R>, limit: u64) -> Result<Vec<u8>, TarballError> {
    if entry.size() > limit {
        let why = "comes with a description that is too long";
        return Err(TarballError::Name { name: escaped(&entry.path_bytes()), why });
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(read_error)?;
    while content.last() == Some(&0) {
        content.pop();
    }
    Ok(content)
}

fn header<R: Read>(entry: &Entry<'_, R>, extensions: Extensions) -> Result<Header, TarballError> {
    let bytes = extensions.name.unwrap_or_else(|| entry.path_bytes().into_owned());
    let written = escaped(&bytes);
    let refused = |why| TarballError::Name { name: written.clone(), why };
    let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
    if text.contains(char::is_control) {
        return Err(refused("has control characters"));
    }
    if text.len() > NAME_MAX || text.split('/').any(|part| part.len() > PART_MAX) {
        return Err(refused("is too long"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let size = entry.header().entry_size().map_err(TarballError::Damaged)?;
    // Programs that read the one and programs that read the other would see two archives.
    if extensions.size.is_some_and(|other| other != size) {
        return Err(refused("has two sizes"));
    }
    let link = || {
        let target = extensions.link.clone().or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
        String::from_utf8_lossy(&target.unwrap_or_default()).into_owned()
    };
    let kind = match entry.header().entry_type() {
        _ if extensions.sparse => Kind::Special("a sparse file"),
        // A file of the first tar, whose directories are told by their names.
        EntryType::Regular if text.ends_with('/') => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File(size),
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link()),
        EntryType::Link => Kind::Hardlink(link()),
        EntryType::Char | EntryType::Block => Kind::Special("a device"),
        EntryType::Fifo => Kind::Special("a fifo"),
        EntryType::GNUSparse => Kind::Special("a sparse file"),
        _ => Kind::Special("of an unknown type"),
    };
    let mode = entry.header().mode().map_err(TarballError::Damaged)?;
    Ok(Header { name: parts.join("/"), leaves: leaves(&text), written, kind, mode })
}

fn leaves(name: &str) -> bool {
    name.starts_with('/') || name.split('/').any(|part| part == "..")
}

/// Whether a link at `name` leads out of the archive.
#[must_use]
pub fn leads_out(name: &str, kind: &Kind) -> bool {
    let (mut depth, target) = match kind {
        Kind::Symlink(target) => (name.matches('/').count(), target),
        Kind::Hardlink(target) => (0, target),
        _ => return false,
    };
    if target.starts_with('/') {
        return true;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// The names of files that came before: a second one of a name would replace what was checked.
#[derive(Debug, Default)]
pub struct Seen(BTreeSet<String>);

impl Seen {
    /// Whether the name is new.
    pub fn is_new(&mut self, header: &Header) -> bool {
        header.kind == Kind::Directory || self.0.insert(header.name.clone())
    }
}

/// What a failed read means: our own limit comes through the decoders as an error of theirs.
pub(super) fn read_error(error: io::Error) -> TarballError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
        Some(too_large) => TarballError::TooLarge(*too_large),
        None => TarballError::Damaged(error),
    }
}

/// Bytes of others as messages show them: short, and without control characters.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    if bytes.len() > SHOWN { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", "b", false)]
    #[case("a/b/c", "../../d", false)]
    #[case("a/b/c", "../../../d", true)]
    #[case("a", "b/../../c", true)]
    #[case("a/b", "/etc/passwd", true)]
    fn a_symbolic_link_is_followed_on_paper(#[case] name: &str, #[case] target: &str, #[case] out: bool) {
        assert_eq!(leads_out(name, &Kind::Symlink(target.into())), out);
    }

    #[test]
    fn a_hard_link_is_followed_from_the_top() {
        assert!(leads_out("a/b", &Kind::Hardlink("../x".into())));
        assert!(!leads_out("a/b", &Kind::Hardlink("a/x".into())));
    }
}
