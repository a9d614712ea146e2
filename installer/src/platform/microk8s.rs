//! MicroK8s: a snap whose start script replaces `${…}` in a TOML template, and nothing else.
//!
//! Paths lead through `current`, so that they stay right after a refresh of the snap, which copies the folder.
//! Source: `microk8s-resources/wrappers/run-containerd-with-args`.

use std::path::PathBuf;

use super::{Form, Layout, Platform, Seen, usual_dirs};

const ARGUMENTS: &str = "/var/snap/microk8s/current/args";

pub(super) fn platform(seen: &Seen<'_>) -> Platform {
    let arguments = PathBuf::from(ARGUMENTS);
    let layout = Layout {
        path: arguments.join("containerd-template.toml"),
        form: Form::Source,
        loaded: arguments.join("containerd.toml"),
    };
    let address = seen.option(&["--address", "-a"]).unwrap_or("/var/snap/microk8s/common/run/containerd.sock");
    let mut platform = seen.platform(Some(address.to_owned()), layout);
    // Where KWasm had it: it survives refreshes of the snap, and Ubuntu Core has no writable /opt.
    platform.install_dirs = vec!["/var/snap/microk8s/common/kwasm".into()];
    platform.install_dirs.extend(usual_dirs());
    platform
}
