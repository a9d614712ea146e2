//! Booting a node with systemd-nspawn.

use std::path::Path;

use super::files::PAUSE_ARCHIVE;
use super::{Node, NodeError, note};
use crate::files;
use crate::ledger::{Ledger, Made};
use crate::mounts;
use crate::pieces::Pieces;
use crate::process::{self, Program};

/// nspawn leaves files in `/run` when it is killed: it gets one of its own, which vanishes with it.
const PRIVATE_RUN: &str = r#"mount -t tmpfs -o mode=755 tmpfs /run && exec "$@""#;

/// Lays the node's own files over the base system.
pub(super) fn mount_root(node: &Node, pieces: &Pieces, ledger: &Ledger) -> Result<(), NodeError> {
    let folder = node.folder();
    for name in ["upper", "work", "root", "containerd", "kubelet"] {
        files::make_folder(&folder.join(name))?;
    }
    ledger.note(&Made::Mount { point: node.root() })?;
    let lower = pieces.lower_folders(node.containerd_version());
    Ok(mounts::overlay(&lower, &folder.join("upper"), &folder.join("work"), &node.root())?)
}

/// Starts the node's systemd.
pub(super) fn start(node: &Node, pieces: &Pieces, ledger: &Ledger) -> Result<(), NodeError> {
    let cgroup = node.cgroup();
    cgroup.make()?;
    let console = node.console();
    let mut words: Vec<String> =
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", PRIVATE_RUN, "sh", "env", "SYSTEMD_NSPAWN_LOCK=0"]
            .map(str::to_owned)
            .into();
    words.extend(nspawn(node, pieces));
    // nspawn joins the node's network itself.
    let id = process::start(&Program { words, cgroup: &cgroup, network: None, log: &console })?;
    Ok(note(ledger, node.name(), id)?)
}

fn nspawn(node: &Node, pieces: &Pieces) -> Vec<String> {
    let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
    let bind_read_only = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
    vec![
        "systemd-nspawn".to_owned(),
        "--boot".to_owned(),
        // No systemd and no D-Bus on this machine are needed.
        "--register=no".to_owned(),
        "--keep-unit".to_owned(),
        format!("--directory={}", node.root().display()),
        format!("--machine={}", node.name()),
        format!("--network-namespace-path={}", node.namespace().display()),
        // A node's kubelet and containers may do what they may on a whole machine.
        "--capability=all".to_owned(),
        "--system-call-filter=@known".to_owned(),
        "--resolv-conf=off".to_owned(),
        "--timezone=off".to_owned(),
        "--link-journal=no".to_owned(),
        "--console=pipe".to_owned(),
        // The kubelet reads out-of-memory events there.
        "--bind=/dev/kmsg".to_owned(),
        // Overlays cannot be stacked: what containerd unpacks must lie on the machine's file system.
        bind(&node.containerd_folder(), "/var/lib/containerd"),
        bind(&node.kubelet_folder(), "/var/lib/kubelet"),
        bind_read_only(&pieces.hyperkube, "/usr/local/bin/hyperkube"),
        bind_read_only(&pieces.pause, PAUSE_ARCHIVE),
    ]
}
