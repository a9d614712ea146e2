//! What a compiler may do on the node: nothing but compute, for a while.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, chroot, geteuid, getppid, setgroups, setresgid, setresuid};

/// The user `nobody`, by the number that every distribution gives it.
const NOBODY: u32 = 65_534;

/// Address space in bytes; a 20 MB module takes some 600 MB to compile.
const MEMORY_MAX: u64 = 4 << 30;

/// Processor time in seconds, over all threads.
const CPU_TIME_MAX: u64 = 300;

/// The largest artefact, in bytes.
const ARTEFACT_MAX: u64 = 1 << 30;

/// The first to be killed when the node runs out of memory (proc(5), `oom_score_adj`). containerd's own score, which is
/// inherited, is next to the last.
const OOM_SCORE: &str = "1000";

/// A step of the confinement that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("confining the compiler: {step}: {error}")]
pub(crate) struct ConfinementError {
    step: &'static str,
    error: io::Error,
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> ConfinementError {
    move |error| ConfinementError { step, error: error.into() }
}

/// Gives up everything but the open descriptors. Must run before the first thread starts.
///
/// Without root (a developer's call by hand) only the limits are set.
///
/// # Errors
/// The step that failed; nothing may be compiled then.
pub(crate) fn enter() -> Result<(), ConfinementError> {
    let parent = getppid();
    fs::write("/proc/self/oom_score_adj", OOM_SCORE).map_err(step("going first when memory is short"))?;
    setrlimit(Resource::RLIMIT_AS, MEMORY_MAX, MEMORY_MAX).map_err(step("limiting memory"))?;
    setrlimit(Resource::RLIMIT_CPU, CPU_TIME_MAX, CPU_TIME_MAX).map_err(step("limiting processor time"))?;
    setrlimit(Resource::RLIMIT_FSIZE, ARTEFACT_MAX, ARTEFACT_MAX).map_err(step("limiting file sizes"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("forbidding core dumps"))?;
    set_no_new_privs().map_err(step("giving up new privileges"))?;
    if geteuid().is_root() {
        become_nobody()?;
    }
    // Last, because a change of user undoes it: without the shim nobody wants the artefact, or would end this process.
    set_pdeathsig(Signal::SIGKILL).map_err(step("following the shim in death"))?;
    if getppid() != parent {
        return Err(step("following the shim in death")(Errno::ESRCH));
    }
    Ok(())
}

fn become_nobody() -> Result<(), ConfinementError> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC).map_err(step("leaving the network"))?;
    chroot(".").map_err(step("leaving the file system"))?;
    chdir("/").map_err(step("leaving the working folder"))?;
    setgroups(&[]).map_err(step("leaving all groups"))?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(group, group, group).map_err(step("leaving root's group"))?;
    setresuid(user, user, user).map_err(step("becoming nobody"))
}
