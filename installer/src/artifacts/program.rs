//! Whether this machine can run a file: its ELF header, read without running it.
//!
//! Numbers are those of the System V ABI's `elf.h`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::archive::{Begins, ELF, EXECUTABLE};
use crate::host::Files;

/// `EM_…` of the architectures that Linux nodes have, with the names that Go gives them.
const MACHINES: [(u16, &str); 10] = [
    (3, "386"),
    (8, "mips"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_INTERP: u32 = 3;

/// The longest path of an interpreter: Linux' `PATH_MAX`.
const INTERPRETER_MAX: u64 = 4096;

/// Program headers that are looked at: far more than any linker writes.
const HEADERS_MAX: u16 = 256;

/// Why a file cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is a directory, a device or the like.
    #[error("`{name}` is no regular file")]
    NotFile {
        /// The file's name.
        name: String,
    },
    /// Nobody may run it.
    #[error("`{name}` is not executable")]
    NotExecutable {
        /// The file's name.
        name: String,
    },
    /// It is no ELF file.
    #[error("`{name}` is not an ELF binary: {begins}")]
    NotElf {
        /// The file's name.
        name: String,
        /// How it begins.
        begins: Begins,
    },
    /// It is for other machines.
    #[error("`{name}` is a program for {found}, this node is {this}")]
    Machine {
        /// The file's name.
        name: String,
        /// What it is for.
        found: String,
        /// What this is.
        this: String,
    },
    /// It is an object file, a core dump or the like.
    #[error("`{name}` is an ELF file of type {kind}, which is no program")]
    Kind {
        /// The file's name.
        name: String,
        /// `e_type`.
        kind: u16,
    },
    /// Its header contradicts itself or its length.
    #[error("`{name}` is a damaged ELF binary: {why}")]
    Damaged {
        /// The file's name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It needs a loader that is not there.
    #[error(
        "`{name}` needs the loader {}, which this node does not have: a statically linked build runs on every node", interpreter.display()
    )]
    Interpreter {
        /// The file's name.
        name: String,
        /// The loader.
        interpreter: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read `{name}`: {source}")]
    Read {
        /// The file's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Checks that a file is a program for this machine; returns the loader that it asks for, if any.
///
/// # Errors
/// If it is none.
pub fn inspect(file: &File, name: &str) -> Result<Option<PathBuf>, ProgramError> {
    let damaged = |why| ProgramError::Damaged { name: name.to_owned(), why };
    let unreadable = |source| ProgramError::Read { name: name.to_owned(), source };
    let mut begin = [0; 64];
    let length = file.read_at(&mut begin, 0).map_err(unreadable)?;
    if !begin.starts_with(ELF) {
        return Err(ProgramError::NotElf { name: name.to_owned(), begins: Begins::with(&begin[..length]) });
    }
    if length < begin.len() {
        return Err(damaged("it ends within its header"));
    }
    let header = Header::of(&begin);
    header.suits(name)?;
    let (table, size, count) = header.program_headers();
    if count > HEADERS_MAX {
        return Err(damaged("it has too many program headers"));
    }
    for number in 0..u64::from(count) {
        let mut entry = [0; 56];
        let entry = &mut entry[..header.entry_size()];
        let at = number.checked_mul(size.into()).and_then(|offset| offset.checked_add(table));
        let at = at.ok_or_else(|| damaged("its program headers are nowhere"))?;
        file.read_exact_at(entry, at).map_err(|_| damaged("it ends within its program headers"))?;
        if let Some((at, length)) = header.interpreter(entry) {
            let fits = (2..=INTERPRETER_MAX).contains(&length);
            let mut path = vec![0; if fits { length } else { 0 } as usize];
            file.read_exact_at(&mut path, at).map_err(|_| damaged("it ends within its loader's name"))?;
            return loader(&path).map(Some).ok_or_else(|| damaged("its loader has no name"));
        }
    }
    Ok(None)
}

/// Checks that a node can run a file: it is a program for this machine, and the loader that it asks for is there.
///
/// # Errors
/// If it cannot.
pub fn runs_on(files: &Files, file: &File, name: &str) -> Result<(), ProgramError> {
    match inspect(file, name)? {
        Some(interpreter) if files.metadata(&interpreter).is_none() => {
            Err(ProgramError::Interpreter { name: name.to_owned(), interpreter })
        }
        _ => Ok(()),
    }
}

/// Checks a program that somebody put on the node. A script is none, here as in what is fetched.
///
/// # Errors
/// If the node cannot run it.
pub fn check(files: &Files, path: &Path) -> Result<(), ProgramError> {
    let name = path.display().to_string();
    let real = files.locate(&files.follow(path));
    let unreadable = |source| ProgramError::Read { name: name.clone(), source };
    let metadata = std::fs::metadata(&real).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ProgramError::NotFile { name });
    }
    if metadata.mode() & EXECUTABLE == 0 {
        return Err(ProgramError::NotExecutable { name });
    }
    runs_on(files, &File::open(&real).map_err(unreadable)?, &name)
}

fn loader(bytes: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(bytes.strip_suffix(&[0])?).ok()?;
    (text.starts_with('/') && !text.contains(char::is_control)).then(|| Path::new(text).to_owned())
}

/// The fields of an ELF header that matter, in the byte order that it says.
struct Header<'a> {
    bytes: &'a [u8; 64],
    wide: bool,
    little: bool,
}

impl<'a> Header<'a> {
    fn of(bytes: &'a [u8; 64]) -> Self {
        Self { bytes, wide: bytes[4] == 2, little: bytes[5] == 1 }
    }

    /// Whether this machine runs such files: itself is the measure.
    fn suits(&self, name: &str) -> Result<(), ProgramError> {
        let own_width = cfg!(target_pointer_width = "64");
        let own_order = cfg!(target_endian = "little");
        let (this, found) = (super::remote::architecture(), self.machine());
        let this_generic = this.trim_end_matches("le");
        if self.wide != own_width || self.little != own_order || found.trim_end_matches("le") != this_generic {
            let width = if self.wide { 64 } else { 32 };
            let order = if self.little { "little" } else { "big" };
            let found = format!("{found} ({width} bits, {order}-endian)");
            return Err(ProgramError::Machine { name: name.to_owned(), found, this: this.to_owned() });
        }
        match self.half(16) {
            ET_EXEC | ET_DYN => Ok(()),
            kind => Err(ProgramError::Kind { name: name.to_owned(), kind }),
        }
    }

    fn machine(&self) -> String {
        let number = self.half(18);
        let known = MACHINES.iter().find(|(known, _)| *known == number);
        known.map_or_else(|| format!("machine {number}"), |(_, name)| (*name).to_owned())
    }

    /// Where the program headers are, how far apart, and how many.
    fn program_headers(&self) -> (u64, u16, u16) {
        if self.wide {
            (number(&self.bytes[32..40], self.little), self.half(54), self.half(56))
        } else {
            (number(&self.bytes[28..32], self.little), self.half(42), self.half(44))
        }
    }

    const fn entry_size(&self) -> usize {
        if self.wide { 56 } else { 32 }
    }

    /// Where a program header says that the loader's name is, if it does.
    fn interpreter(&self, entry: &[u8]) -> Option<(u64, u64)> {
        let field = |range: std::ops::Range<usize>| number(&entry[range], self.little);
        let place = if self.wide { (field(8..16), field(32..40)) } else { (field(4..8), field(16..20)) };
        (field(0..4) == u64::from(PT_INTERP)).then_some(place)
    }

    fn half(&self, at: usize) -> u16 {
        let bytes = [self.bytes[at], self.bytes[at + 1]];
        if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }
}

fn number(bytes: &[u8], little: bool) -> u64 {
    let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rstest::rstest;

    use super::*;

    fn inspected(bytes: &[u8]) -> Result<Option<PathBuf>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        inspect(&file, "shim").map_err(|error| error.to_string())
    }

    /// This test's own program, which this machine runs.
    fn own() -> Vec<u8> {
        let mut own = vec![0; 1 << 16];
        let file = File::open("/proc/self/exe").unwrap();
        file.read_exact_at(&mut own, 0).unwrap();
        own
    }

    #[test]
    fn a_program_of_this_machine_is_one() {
        assert_eq!(inspected(&own()), Ok(None));
    }

    #[test]
    fn the_loader_of_a_dynamic_program_is_found() {
        let file = File::open("/bin/sh").unwrap();
        let loader = inspect(&file, "sh").unwrap().unwrap();
        assert!(loader.starts_with("/lib") || loader.starts_with("/lib64"), "{}", loader.display());
    }

    #[rstest]
    #[case::empty(b"", "`shim` is not an ELF binary: it is empty")]
    #[case::script(b"#!/bin/sh\n", "`shim` is not an ELF binary: it begins with `#!/bin/sh\\n`")]
    #[case::short(b"\x7fELF\x02\x01", "`shim` is a damaged ELF binary: it ends within its header")]
    fn what_is_no_program_is_refused_with_its_beginning(#[case] bytes: &[u8], #[case] message: &str) {
        assert_eq!(inspected(bytes).unwrap_err(), message);
    }

    #[rstest]
    #[case::machine(18, &[0xf7, 0xff], "is a program for machine 65527 (64 bits, little-endian), this node is ")]
    #[case::kind(16, &[1, 0], "`shim` is an ELF file of type 1, which is no program")]
    #[case::narrow(4, &[1], "(32 bits, little-endian), this node is ")]
    #[case::headers(56, &[0xff, 0xff], "`shim` is a damaged ELF binary: it has too many program headers")]
    #[case::nowhere(32, &[0xff; 8], "`shim` is a damaged ELF binary: ")]
    fn a_header_that_does_not_fit_is_refused(#[case] at: usize, #[case] bytes: &[u8], #[case] message: &str) {
        let mut program = own();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        let error = inspected(&program).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}
