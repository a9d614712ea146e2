//! One run of the compiler.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::reaper::Reaper;

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    /// The module cannot be compiled.
    #[error("the module is not valid for this runtime: {0}")]
    Invalid(String),
    /// The compiler ended without a word.
    #[error("compiling the module: the compiler ended with {0} (137 means killed: too little memory on the node?)")]
    Died(u32),
    /// The compiler cannot be started.
    #[error("starting the compiler {path}: {error}; is the runtime installed completely?")]
    NotStarted { path: PathBuf, error: io::Error },
}

/// Compiles `module` into `artefact`, with the folder `empty` as all that the compiler can see. Dropped before its end, the
/// compiler is killed.
///
/// # Errors
/// If the module is invalid, or the compiler does not work.
pub(super) async fn run(
    compiler: &Path,
    reaper: &Reaper,
    empty: &Path,
    module: File,
    artefact: &File,
) -> Result<(), CompilerError> {
    let not_started = |error| CompilerError::NotStarted { path: compiler.to_path_buf(), error };
    DirBuilder::new().recursive(true).mode(0o555).create(empty).map_err(not_started)?;
    let mut command = Command::new(compiler);
    command.env_clear().current_dir(empty).stdin(module).stdout(artefact.try_clone().map_err(not_started)?);
    let ended = reaper.run(&mut command).await.map_err(not_started)?;
    match ended.code {
        0 => Ok(()),
        1 if !ended.message.is_empty() => Err(CompilerError::Invalid(ended.message)),
        code => Err(CompilerError::Died(code)),
    }
}
