//! The node's store of compiled modules.
//!
//! Only root can enter it, and only what `wasmtime-compiler` of this node wrote is in it: it is loaded as native code. A file is
//! named after its module and its compiler, appears by rename when it is whole, and never changes.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kwasm_shim_protocol::artefact::file_name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
use sha2::{Digest, Sha256};

use crate::reaper::Reaper;

/// The store's folder on the node.
pub(crate) const CACHE_DIR: &str = "/var/lib/kwasm/cache/wasmtime";

/// How long a compilation may take: kubelet gives up on a container's start after two minutes, and asks again.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(110);

/// The largest module that is taken, in bytes: it is read into memory, and a sparse file may claim any size.
const MODULE_MAX: u64 = 256 << 20;

/// How often a lock that another pod's shim holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// As much of the compiler's message as is told, in bytes.
const MESSAGE_MAX: u64 = 2048;

/// Why there is no artefact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The store itself is at fault.
    #[error("the node's store of compiled modules: {action} {path}: {error}")]
    Store { action: &'static str, path: PathBuf, error: io::Error },
    /// Someone else could have put native code there.
    #[error(
        "the node's store of compiled modules {0} does not belong to root alone (mode 0700): nothing is loaded from it; remove it"
    )]
    NotPrivate(PathBuf),
    /// The module is larger than [`MODULE_MAX`].
    #[error("the module is larger than {} MiB", MODULE_MAX >> 20)]
    TooLarge,
    /// The module cannot be compiled.
    #[error("the module is not valid for this runtime: {0}")]
    Invalid(String),
    /// The compiler ended without a word.
    #[error("compiling the module: the compiler ended with {0} (137 means killed: too little memory on the node?)")]
    CompilerDied(u32),
    /// The compiler took too long.
    #[error("compiling the module took longer than {} s", COMPILE_TIME_MAX.as_secs())]
    TooSlow,
    /// The compiler cannot be started.
    #[error("starting the compiler {path}: {error}; is the runtime installed completely?")]
    NoCompiler { path: PathBuf, error: io::Error },
}

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    compiler: PathBuf,
    reaper: Reaper,
}

impl Cache {
    /// The store in [`CACHE_DIR`], filled by this compiler.
    pub(crate) fn new(compiler: PathBuf, reaper: Reaper) -> Self {
        Self { dir: CACHE_DIR.into(), compiler, reaper }
    }

    /// The name of the artefact of `module`, which is compiled if it is not there or `replace` is set.
    ///
    /// # Errors
    /// If the module is invalid, or the store cannot be used.
    pub(crate) async fn artefact(&self, module: File, replace: bool) -> Result<String, CacheError> {
        self.prepare()?;
        let mut module = self.copy(module)?;
        let name = file_name(&sha256(&mut module).map_err(self.store("reading the module for"))?);
        if !replace && self.dir.join(&name).exists() {
            return Ok(name);
        }
        // One file for all modules of the same first byte: so that locks need no removing.
        let lock_path = self.dir.join(format!("lock-{}", &name[..2]));
        let lock = File::create(&lock_path).map_err(self.store("locking"))?;
        while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(self.store("locking")(errno.into()));
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        if replace || !self.dir.join(&name).exists() {
            self.compile(module, &name).await?;
        }
        Ok(name)
    }

    /// What is hashed must be what is compiled, and a file on a volume can change at any time: so a copy of our own.
    fn copy(&self, module: File) -> Result<File, CacheError> {
        let copy = memfd_create("module", MemfdFlags::CLOEXEC).map(File::from);
        let mut copy = copy.map_err(|errno| self.store("reading the module for")(errno.into()))?;
        let copied = io::copy(&mut module.take(MODULE_MAX + 1), &mut copy);
        if copied.map_err(self.store("reading the module for"))? > MODULE_MAX {
            return Err(CacheError::TooLarge);
        }
        copy.rewind().map_err(self.store("reading the module for"))?;
        Ok(copy)
    }

    /// Creates the store, and refuses one that others can write to.
    ///
    /// # Errors
    /// If it is not private.
    pub(crate) fn prepare(&self) -> Result<(), CacheError> {
        if !self.dir.exists() {
            let parents = self.dir.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).create(parents).map_err(self.store("creating"))?;
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(self.store("creating"))?;
        }
        let metadata = fs::symlink_metadata(&self.dir).map_err(self.store("reading"))?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o077 != 0 {
            return Err(CacheError::NotPrivate(self.dir.clone()));
        }
        Ok(())
    }

    async fn compile(&self, mut module: File, name: &str) -> Result<(), CacheError> {
        module.rewind().map_err(self.store("reading the module for"))?;
        // The lock is held, so a file of this name was left by a compilation that was interrupted.
        let unfinished = self.dir.join(format!("{name}.unfinished"));
        let artefact = File::create(&unfinished).map_err(self.store("writing to"))?;
        artefact.set_permissions(Permissions::from_mode(0o400)).map_err(self.store("writing to"))?;
        let finished = match self.run_compiler(module, &artefact).await {
            Ok(()) => artefact.sync_data().and_then(|()| fs::rename(&unfinished, self.dir.join(name))),
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        finished.map_err(self.store("writing to"))
    }

    async fn run_compiler(&self, module: File, artefact: &File) -> Result<(), CacheError> {
        // The compiler makes its working folder its root: an empty one.
        let empty = self.dir.join("empty");
        DirBuilder::new().recursive(true).mode(0o555).create(&empty).map_err(self.store("creating"))?;
        let message = memfd_create("compiler-message", MemfdFlags::CLOEXEC).map(File::from);
        let mut message = message.map_err(|errno| self.store("starting the compiler for")(errno.into()))?;
        let share = |file: &File| file.try_clone().map(Stdio::from).map_err(self.store("starting the compiler for"));
        let child = Command::new(&self.compiler)
            .env_clear()
            .current_dir(&empty)
            .stdin(module)
            .stdout(share(artefact)?)
            .stderr(share(&message)?)
            .spawn()
            .map_err(|error| CacheError::NoCompiler { path: self.compiler.clone(), error })?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let exit = self.reaper.claim(pid);
        let Ok(exit) = tokio::time::timeout(COMPILE_TIME_MAX, exit).await else {
            let _ = kill(pid, Signal::SIGKILL);
            return Err(CacheError::TooSlow);
        };
        let code = exit.map_or(255, |exit| exit.code);
        let mut text = String::new();
        let read = message.rewind().and_then(|()| message.take(MESSAGE_MAX).read_to_string(&mut text));
        match code {
            0 => Ok(()),
            1 if read.is_ok() && !text.trim().is_empty() => Err(CacheError::Invalid(one_line(&text))),
            code => Err(CacheError::CompilerDied(code)),
        }
    }

    fn store(&self, action: &'static str) -> impl Fn(io::Error) -> CacheError + '_ {
        move |error| CacheError::Store { action, path: self.dir.clone(), error }
    }
}

fn sha256(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A message for an event or a status, which show one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_store_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().join("store"), compiler: "/none".into(), reaper: Reaper::default() };
        fs::create_dir(&cache.dir).unwrap();
        fs::set_permissions(&cache.dir, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(cache.prepare(), Err(CacheError::NotPrivate(_))));
    }

    #[test]
    fn a_module_that_claims_to_be_larger_than_the_limit_is_refused() {
        let cache = Cache { dir: "/none".into(), compiler: "/none".into(), reaper: Reaper::default() };
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(MODULE_MAX + 1).unwrap();
        assert!(matches!(cache.copy(sparse), Err(CacheError::TooLarge)));
    }

    #[test]
    fn a_module_that_changes_after_it_was_copied_is_taken_as_it_was() {
        let cache = Cache { dir: "/none".into(), compiler: "/none".into(), reaper: Reaper::default() };
        let mut module = tempfile::tempfile().unwrap();
        module.write_all(b"before").unwrap();
        module.rewind().unwrap();
        let mut copy = cache.copy(module.try_clone().unwrap()).unwrap();
        module.rewind().unwrap();
        module.write_all(b"after!").unwrap();
        assert_eq!(io::read_to_string(&mut copy).unwrap(), "before");
    }

    #[test]
    fn a_message_of_several_lines_is_told_in_one() {
        assert_eq!(one_line("invalid\n\nCaused by:\n    0: x\n"), "invalid Caused by: 0: x");
    }
}
