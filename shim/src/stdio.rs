//! A container's standard descriptors: containerd's FIFOs, given to the process itself. Nothing is copied.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

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
    #[error("opening the container's output {path}: {error}")]
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

/// Keeps the input's FIFO open for writing until containerd closes it: without a writer a guest would read its end
/// before the first client has come.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn input_keeper(path: &str) -> Result<Option<File>, StdioError> {
    if path.is_empty() {
        return Ok(None);
    }
    let opened = File::options().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    opened.map(Some).map_err(|error| StdioError::Open { path: path.into(), error })
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
}
