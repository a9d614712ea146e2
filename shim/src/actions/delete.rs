//! The action `delete`: clean up after a container whose shim is gone.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use rustix::mount::{UnmountFlags, unmount};

use crate::address::socket_path;
use crate::cgroup::Cgroup;
use crate::command_line::CommandLine;
use crate::events::timestamp;
use crate::spec::Spec;

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// 128 + SIGKILL.
const KILLED: u32 = 137;

/// Kills what is left of the container, removes its cgroup and socket, and prints a `DeleteResponse`. Doing it again changes nothing.
///
/// # Errors
/// If something cannot be removed; containerd logs the text.
pub(super) fn delete(line: &CommandLine) -> Result<()> {
    let bundle = match &line.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().context("finding the bundle")?,
    };
    // Without a specification there was never a process.
    if let Ok(spec) = Spec::of_bundle(&bundle) {
        Cgroup::of(&spec.linux.cgroups_path, &line.namespace, &line.id)?.kill_and_remove(PATIENCE)?;
        let socket = socket_path(&line.address, &line.namespace, spec.group(&line.id));
        if UnixStream::connect(&socket).is_err() {
            let _ = fs::remove_file(socket);
        }
    }
    // Roots are mounted in the containers' own namespaces; one on the host is of an older shim or someone else's.
    let _ = unmount(bundle.join("rootfs"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..DeleteResponse::default()
    };
    Ok(std::io::stdout().write_all(&response.write_to_bytes()?)?)
}
