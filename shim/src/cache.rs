//! The node's store of compiled modules.
//!
//! Only root can enter it, and only what `wasmtime-compiler` of this node wrote is in it: it is loaded as native code. A file is
//! named after its module and its compiler, appears by rename when it is whole, and never changes.

mod compiler;
mod prune;
mod turn;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kwasm_shim_protocol::artefact::file_name;
use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::reaper::Reaper;
pub(crate) use compiler::CompilerError;
use turn::NoTurn;

/// The store's folder on the node.
pub(crate) const CACHE_DIR: &str = "/var/lib/kwasm/cache/wasmtime";

/// How long a container may take to be created, compilation included: kubelet gives up after two minutes, and asks again.
pub(crate) const CREATION_TIME_MAX: Duration = Duration::from_secs(110);

/// The largest module that is taken, in bytes: it is read into memory, and a sparse file may claim any size.
const MODULE_MAX: u64 = 256 << 20;

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
    /// It was not compiled.
    #[error(transparent)]
    Compiler(#[from] CompilerError),
    /// The compiler was not done in time.
    #[error("compiling the module was not done {} s after the container's creation began", CREATION_TIME_MAX.as_secs())]
    TooSlow,
    /// Other modules were not done in time.
    #[error(
        "the node was busy compiling other modules for {} s; this one has its turn when the container is started again",
        CREATION_TIME_MAX.as_secs()
    )]
    Busy,
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
    /// If the module is invalid, the store cannot be used, or it takes longer than until `deadline`.
    pub(crate) async fn artefact(&self, module: File, replace: bool, deadline: Instant) -> Result<String, CacheError> {
        self.prepare()?;
        let mut module = self.copy(module)?;
        let name = file_name(&sha256(&mut module).map_err(self.store("reading the module for"))?);
        if !replace && self.is_there(&name) {
            return Ok(name);
        }
        let _turn = turn::of_module(&self.dir, &name, deadline).await.map_err(self.no_turn())?;
        if replace || !self.is_there(&name) {
            let _slot = turn::of_node(&self.dir, deadline).await.map_err(self.no_turn())?;
            self.compile(module, &name, deadline).await?;
            prune::prune(&self.dir);
        }
        Ok(name)
    }

    /// Whether an artefact is there; it counts as used now.
    fn is_there(&self, name: &str) -> bool {
        let Ok(file) = File::open(self.dir.join(name)) else { return false };
        // Only the order in which artefacts go depends on it.
        let _ = file.set_modified(SystemTime::now());
        true
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

    async fn compile(&self, mut module: File, name: &str, deadline: Instant) -> Result<(), CacheError> {
        module.rewind().map_err(self.store("reading the module for"))?;
        let unfinished = self.dir.join(format!("{name}.unfinished"));
        let artefact = fresh(&unfinished).map_err(self.store("writing to"))?;
        let empty = self.dir.join("empty");
        let run = compiler::run(&self.compiler, &self.reaper, &empty, module, &artefact);
        let compiled = match timeout_at(deadline, run).await {
            Ok(compiled) => compiled.map_err(CacheError::from),
            Err(_) => Err(CacheError::TooSlow),
        };
        let finish = || artefact.sync_data().and_then(|()| fs::rename(&unfinished, self.dir.join(name)));
        let finished = compiled.and_then(|()| finish().map_err(self.store("writing to")));
        if finished.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        finished
    }

    fn store(&self, action: &'static str) -> impl Fn(io::Error) -> CacheError + '_ {
        move |error| CacheError::Store { action, path: self.dir.clone(), error }
    }

    fn no_turn(&self) -> impl Fn(NoTurn) -> CacheError + '_ {
        |reason| match reason {
            NoTurn::TooLate => CacheError::Busy,
            NoTurn::Io(error) => self.store("locking")(error),
        }
    }
}

/// A new file for an artefact. The module's lock is held, so a file of this name was left by a compilation that was
/// interrupted; a compiler that still writes to that one must not write to this one.
fn fresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(0o400))?;
    Ok(file)
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
    fn what_an_interrupted_compilation_still_writes_is_not_in_the_next_ones_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ab.cwasm.unfinished");
        let mut stale = fresh(&path).unwrap();
        fresh(&path).unwrap();
        stale.write_all(b"native code of another module").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn an_artefact_that_is_asked_for_counts_as_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().to_path_buf(), compiler: "/none".into(), reaper: Reaper::default() };
        let file = File::create(dir.path().join("ab.cwasm")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(cache.is_there("ab.cwasm") && !cache.is_there("cd.cwasm"));
        assert!(file.metadata().unwrap().modified().unwrap().elapsed().unwrap().as_secs() < 60);
    }
}
