//! Who the container's process is, and what it may do.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchdir, setgroups, setresgid, setresuid, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::{InitError, step};
use crate::in_root::{self, Missing};
use crate::spec::{Process, Rlimit};

/// The mask of new files' modes, as runc has it.
const UMASK: u32 = 0o022;

/// Takes on the container's user, groups, limits and working folder, and gives up every capability: an engine needs none.
///
/// # Errors
/// The step that was refused.
pub(super) fn take(process: &Process) -> Result<(), InitError> {
    let user = &process.user;
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    enter(Path::new(cwd)).map_err(step(format!("entering the working folder {cwd}")))?;
    process.rlimits.iter().for_each(limit);
    umask(Mode::from_bits_truncate(user.umask.unwrap_or(UMASK)));
    // A session of its own. Where it is one already, nothing is missing.
    let _ = setsid();
    for capability in CapabilitySet::all().iter() {
        // A kernel that does not know one has nothing to give up.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&groups).map_err(step("setting the groups"))?;
    setresgid(gid, gid, gid).map_err(step(format!("becoming group {gid}")))?;
    setresuid(uid, uid, uid).map_err(step(format!("becoming user {uid}")))?;
    let none = CapabilitySet::empty();
    let _ = clear_ambient_capability_set();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(step("giving up capabilities"))?;
    set_no_new_privs().map_err(step("giving up new privileges"))?;
    // After the user was changed, which would undo it: without the shim nobody would ever end this process.
    set_pdeathsig(Signal::SIGKILL).map_err(step("following the shim in death"))
}

fn enter(cwd: &Path) -> io::Result<()> {
    let root = File::open("/")?;
    Ok(fchdir(in_root::place(root, cwd, Missing::Folder)?)?)
}

/// A limit above what the node may grant stays as it is: not every node has CAP_SYS_RESOURCE to give.
fn limit(Rlimit { kind, soft, hard }: &Rlimit) {
    let resource = match kind.as_str() {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        _ => return,
    };
    let _ = setrlimit(resource, *soft, *hard);
}
