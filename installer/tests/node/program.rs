//! Programs and archives, made for tests.

use std::io::{Read as _, Write as _};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// The first bytes of a program of this machine: what this test itself begins with, and then `mark`.
pub(crate) fn program(mark: &str) -> Vec<u8> {
    let mut program = vec![0; 64];
    std::fs::File::open("/proc/self/exe").unwrap().read_exact(&mut program).unwrap();
    // No program headers: it needs no loader.
    program[56..58].fill(0);
    program.extend(mark.as_bytes());
    program
}

/// A program that asks for this loader.
pub(crate) fn dynamic_program(loader: &str) -> Vec<u8> {
    let mut program = program("");
    program[32..40].copy_from_slice(&64_u64.to_ne_bytes());
    program[54..56].copy_from_slice(&56_u16.to_ne_bytes());
    program[56..58].copy_from_slice(&1_u16.to_ne_bytes());
    let mut header = [0; 56];
    header[..4].copy_from_slice(&3_u32.to_ne_bytes());
    header[8..16].copy_from_slice(&120_u64.to_ne_bytes());
    header[32..40].copy_from_slice(&(loader.len() as u64 + 1).to_ne_bytes());
    program.extend(header);
    program.extend(loader.as_bytes());
    program.push(0);
    program
}

pub(crate) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive, entry by entry, with whatever names and types.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// An archive with just a shim.
    pub(crate) fn with_shim() -> Self {
        Self::default().program("containerd-shim-spin-v2", &program("spin"))
    }

    pub(crate) fn program(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, 0o755, content, "")
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, 0o644, content, "")
    }

    pub(crate) fn link(self, name: &str, kind: EntryType, target: &str) -> Self {
        self.entry(name, kind, 0o777, b"", target)
    }

    pub(crate) fn entry(mut self, name: &str, kind: EntryType, mode: u32, content: &[u8], target: &str) -> Self {
        let mut header = Header::new_gnu();
        // As bytes, because a builder would refuse the names that matter here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Whatever bytes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(crate) fn gzip(self) -> Vec<u8> {
        gzip(&self.tar())
    }

    pub(crate) fn zstd(self) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(&self.tar()[..], ruzstd::encoding::CompressionLevel::Fastest)
    }
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
