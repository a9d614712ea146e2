//! Loading what this node compiled.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsRawFd;

use rustix::fs::statfs;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// `f_type` of procfs (linux/magic.h).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// As many bytes as an ELF header has.
const ELF_HEADER: usize = 64;

/// Where `e_flags` stands in a 64-bit ELF header; an artefact is little-endian on every architecture.
const ELF_FLAGS: std::ops::Range<usize> = 48..52;

/// `e_flags` of a core module (wasmtime-environ's `EF_WASMTIME_MODULE`).
const FLAG_MODULE: u32 = 1;

/// `e_flags` of a component (wasmtime-environ's `EF_WASMTIME_COMPONENT`).
const FLAG_COMPONENT: u32 = 2;

/// A compiled guest.
pub(crate) enum Artefact {
    /// A core module (WASI preview 1).
    Module(Module),
    /// A component (WASI preview 2).
    Component(Component),
}

/// Why an artefact was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It cannot be read.
    #[error("reading the compiled module: {0}")]
    Read(#[from] io::Error),
    /// It is of another engine, or for another machine.
    #[error("{0}")]
    Incompatible(String),
}

/// Loads the artefact behind `file`, which the shim opened in the node's own cache.
///
/// # Errors
/// If it cannot be read, or was compiled by another version or for another machine.
pub(crate) fn load(engine: &Engine, mut file: File) -> Result<Artefact, LoadError> {
    let mut header = [0; ELF_HEADER];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(LoadError::Incompatible("it is cut off".to_owned()));
        }
        read => read?,
    }
    file.rewind()?;
    // Only which of the two loaders to ask: each checks all that it loads. `Engine::detect_precompiled` wants the whole file.
    let loaded = match flags(&header) {
        flags if flags & FLAG_MODULE != 0 => load_module(engine, file).map(Artefact::Module),
        flags if flags & FLAG_COMPONENT != 0 => load_component(engine, file)?.map(Artefact::Component),
        _ => return Err(LoadError::Incompatible("it is no compiled WebAssembly".to_owned())),
    };
    loaded.map_err(|error| LoadError::Incompatible(format!("{error:#}")))
}

fn flags(header: &[u8; ELF_HEADER]) -> u32 {
    header[ELF_FLAGS].try_into().map_or(0, u32::from_le_bytes)
}

#[allow(unsafe_code, reason = "wasmtime cannot know where native code comes from")]
fn load_module(engine: &Engine, file: File) -> wasmtime::Result<Module> {
    // SAFETY: the descriptor was opened by the shim in a folder that only root can enter, and into which only
    // `wasmtime-compiler` of this node writes; a finished artefact is never changed, only replaced by rename.
    unsafe { Module::deserialize_open_file(engine, file) }
}

#[allow(unsafe_code, reason = "wasmtime cannot know where native code comes from")]
fn load_component(engine: &Engine, mut file: File) -> io::Result<wasmtime::Result<Component>> {
    // Components are mapped by path only. The path counts only on a real procfs: an image could hold a
    // file of this name, and it must never be taken for native code.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if statfs("/proc/self/fd").is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC) {
        // SAFETY: as in `load_module`; the path is the kernel's link to that very descriptor.
        return Ok(unsafe { Component::deserialize_file(engine, path) });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // SAFETY: as in `load_module`.
    Ok(unsafe { Component::deserialize(engine, bytes) })
}
