//! Who compiles when: locks between the shims of a node's pods.
//!
//! Every lock is flock(2) of a file in the store: the kernel gives it back when its holder ends, however it ends.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

/// How often a lock that another pod's shim holds is tried.
const RETRY: Duration = Duration::from_millis(10);

/// So many processors share one compilation, which spreads over all that are idle. What is short is memory: a large module
/// takes hundreds of megabytes.
const PROCESSORS_PER_SLOT: usize = 2;

/// Why there is no turn.
#[derive(Debug)]
pub(super) enum NoTurn {
    /// Others were not done in time.
    TooLate,
    /// The lock itself is at fault.
    Io(io::Error),
}

/// A turn that lasts until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held, never read")] File);

/// Waits for the turn to compile the module whose artefact has this name. One file serves all modules of the same first byte,
/// so that locks need no removing.
///
/// # Errors
/// If the turn does not come before `deadline`.
pub(super) async fn of_module(dir: &Path, artefact: &str, deadline: Instant) -> Result<Turn, NoTurn> {
    let byte: String = artefact.chars().take(2).collect();
    first_free(dir, &[format!("lock-{byte}")], deadline).await
}

/// Waits for one of the node's slots for compilers.
///
/// # Errors
/// If none becomes free before `deadline`.
pub(super) async fn of_node(dir: &Path, deadline: Instant) -> Result<Turn, NoTurn> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let names: Vec<_> = (0..slots(processors)).map(|slot| format!("slot-{slot}")).collect();
    first_free(dir, &names, deadline).await
}

fn slots(processors: usize) -> usize {
    processors.div_ceil(PROCESSORS_PER_SLOT)
}

async fn first_free(dir: &Path, names: &[String], deadline: Instant) -> Result<Turn, NoTurn> {
    let files: Result<Vec<File>, _> = names.iter().map(|name| File::create(dir.join(name))).collect();
    let mut files = files.map_err(NoTurn::Io)?;
    loop {
        for at in 0..files.len() {
            match flock(&files[at], FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Turn(files.swap_remove(at))),
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(NoTurn::Io(errno.into())),
            }
        }
        if Instant::now() >= deadline {
            return Err(NoTurn::TooLate);
        }
        sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits for others gives up at once.
    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test]
    async fn two_shims_do_not_compile_the_same_module() {
        let dir = tempfile::tempdir().unwrap();
        let first = of_module(dir.path(), "ab.cwasm", now()).await.unwrap();
        assert!(matches!(of_module(dir.path(), "ab.cwasm", now()).await, Err(NoTurn::TooLate)));
        of_module(dir.path(), "cd.cwasm", now()).await.unwrap();
        drop(first);
        of_module(dir.path(), "ab.cwasm", now()).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_has_a_slot_for_every_two_processors() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["slot-0".to_owned(), "slot-1".to_owned()];
        let first = first_free(dir.path(), &names, now()).await.unwrap();
        let _second = first_free(dir.path(), &names, now()).await.unwrap();
        assert!(matches!(first_free(dir.path(), &names, now()).await, Err(NoTurn::TooLate)));
        drop(first);
        first_free(dir.path(), &names, now()).await.unwrap();
        assert_eq!([1, 2, 3, 8].map(slots), [1, 1, 2, 4]);
    }
}
