//! The action `start`: print the address of the pod's shim, which is started if it does not run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::getppid;
use rustix::fs::{FlockOperation, flock};

use crate::address::{SOCKET_DIR, address, socket_path};
use crate::command_line::CommandLine;
use crate::spec::Spec;

/// The file beside a bundle in which containerd 1.6 and 1.7 look for the shim's address after a restart.
const ADDRESS_FILE: &str = "address";

/// Finds or starts the shim of the container's pod and prints its address, alone: the form that every containerd from 1.6 on reads.
///
/// # Errors
/// If the bundle is unreadable or no socket can be made; containerd shows the text.
pub(super) fn start(line: &CommandLine) -> Result<()> {
    let bundle = match &line.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().context("finding the bundle")?,
    };
    let spec = Spec::of_bundle(&bundle)?;
    let group = spec.group(&line.id);
    let socket = socket_path(&line.address, &line.namespace, group);
    fs::create_dir_all(SOCKET_DIR).with_context(|| format!("creating {SOCKET_DIR}"))?;
    // Containers of a pod may start at the same time: one of them starts the shim.
    let folder = File::open(SOCKET_DIR).with_context(|| format!("opening {SOCKET_DIR}"))?;
    flock(&folder, FlockOperation::LockExclusive).with_context(|| format!("locking {SOCKET_DIR}"))?;
    if UnixStream::connect(&socket).is_err() {
        spawn(line, &bundle, group, &socket)?;
    }
    fs::write(bundle.join(ADDRESS_FILE), address(&socket)).context("writing the shim's address beside the bundle")?;
    print!("{}", address(&socket));
    std::io::stdout().flush().context("telling containerd the address")
}

fn spawn(line: &CommandLine, bundle: &Path, group: &str, socket: &str) -> Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the socket {socket} of a shim that is gone"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listening on {socket}"))?;
    let program: PathBuf = fs::read_link("/proc/self/exe").context("finding this program")?;
    let mut command = Command::new(program);
    command.args(["-namespace", &line.namespace, "-id", group, "-address", &line.address, "-socket", socket]);
    if line.debug {
        command.arg("-debug");
    }
    // Its own process group: a signal to containerd's must not end pods. No output: containerd waits for the end of ours.
    command.current_dir(bundle).process_group(0);
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    let shim = command.spawn().context("starting the shim")?;
    adjust_oom_score(shim.id()).context("adjusting the shim's oom_score_adj")
}

/// When memory is short the kernel takes a shim before containerd: its score is one more, as with containerd's own shims.
fn adjust_oom_score(shim: u32) -> io::Result<()> {
    let containerd = fs::read_to_string(format!("/proc/{}/oom_score_adj", getppid()))?;
    let containerd = containerd.trim().parse().map_err(io::Error::other)?;
    fs::write(format!("/proc/{shim}/oom_score_adj"), oom_score(containerd).to_string())
}

/// proc(5): from -1000 to 1000.
fn oom_score(containerd: i32) -> i32 {
    containerd.saturating_add(1).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_goes_before_containerd() {
        assert_eq!([-999, 0, 1000].map(oom_score), [-998, 1, 1000]);
    }
}
