//! Finding the container's program in its root, and refusing what is no WebAssembly.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::entry_point::EntryPoint;
use crate::in_root;

/// As many bytes as are needed to tell what a file is.
const HEADER: usize = 64;

/// Why a container's program is not run: told to whoever reads `kubectl describe pod`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// No candidate is a file. Docker makes exit code 127 of these words.
    #[error("exec: {name:?}: no such file or directory in the image; looked for {looked_for}")]
    NotFound { name: String, looked_for: String },
    /// It is a Linux program.
    #[error(
        "exec: {path:?} is {what}, not WebAssembly (a .wasm file starts with 00 61 73 6d): this runtime class runs WebAssembly; \
         Linux containers beside WebAssembly ones are not supported yet, give them a pod of their own without runtimeClassName"
    )]
    LinuxProgram { path: PathBuf, what: &'static str },
    /// It is something else.
    #[error("exec: {path:?} is not WebAssembly: it {starts}; a .wasm file starts with 00 61 73 6d")]
    NotWasm { path: PathBuf, starts: String },
    /// It cannot be read.
    #[error("exec: reading {path:?} in the image: {error}")]
    Read { path: PathBuf, error: std::io::Error },
}

/// A WebAssembly file in a container's root.
#[derive(Debug)]
pub(crate) struct Program {
    /// The open file, at its start.
    pub(crate) file: File,
}

/// Opens the container's program below `root`, which no path or link leads out of.
///
/// # Errors
/// If there is none, or it is no WebAssembly.
pub(crate) fn find(root: impl AsFd, entry: &EntryPoint) -> Result<Program, ProgramError> {
    let found = entry.candidates.iter().find_map(|path| match open(root.as_fd(), path) {
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        // As a shell does: what is found on PATH but is no file is passed over.
        Ok(file) if !is_file(&file) && entry.candidates.len() > 1 => None,
        opened => Some((path, opened)),
    });
    let Some((path, opened)) = found else {
        let looked_for: Vec<_> = entry.candidates.iter().map(|path| path.to_string_lossy()).collect();
        return Err(ProgramError::NotFound { name: entry.name.clone(), looked_for: looked_for.join(", ") });
    };
    let read_error = |error| ProgramError::Read { path: path.clone(), error };
    let mut file = opened.map_err(|errno| read_error(errno.into()))?;
    if !is_file(&file) {
        return Err(ProgramError::NotWasm { path: path.clone(), starts: "is no regular file".to_owned() });
    }
    let mut header = Vec::new();
    file.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(read_error)?;
    check(path, &header)?;
    std::io::Seek::rewind(&mut file).map_err(read_error)?;
    Ok(Program { file })
}

fn open(root: impl AsFd, path: &Path) -> Result<File, Errno> {
    // Without blocking: the path may be a FIFO.
    in_root::open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Whether a file with this name and these first bytes is WebAssembly: binary, or text in a file named `.wat`.
fn check(path: &Path, header: &[u8]) -> Result<(), ProgramError> {
    let path = path.to_path_buf();
    match header {
        [0, b'a', b's', b'm', ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => Err(ProgramError::LinuxProgram { path, what: "a Linux program (ELF)" }),
        [b'#', b'!', ..] => Err(ProgramError::LinuxProgram { path, what: "a script (#!)" }),
        _ if path.extension().is_some_and(|extension| extension == "wat") => Ok(()),
        [] => Err(ProgramError::NotWasm { path, starts: "is empty".to_owned() }),
        _ => {
            let bytes: Vec<_> = header.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Err(ProgramError::NotWasm { path, starts: format!("starts with {}", bytes.join(" ")) })
        }
    }
}

#[cfg(test)]
mod tests;
