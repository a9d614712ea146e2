//! CRI-O, OpenShift among it: one drop-in, and a restart, which leaves containers running.
//!
//! A reload (`SIGHUP`) is no way: CRI-O lists the new handler then, but up to 1.36 refuses to start a pod with
//! it (cri-o/cri-o#10202).

use std::path::{Path, PathBuf};

use super::{Form, Layout, Platform, Seen};

pub(super) fn platform(seen: &Seen<'_>) -> Platform {
    let main = PathBuf::from(seen.option(&["--config", "-c"]).unwrap_or("/etc/crio/crio.conf"));
    let told = seen.option(&["--config-dir", "-d"]).map(Path::new);
    let folder = told.or_else(|| seen.remembered()?.parent()).unwrap_or(Path::new("/etc/crio/crio.conf.d"));
    let layout = Layout { path: folder.join("99-kwasm.conf"), form: Form::CrioDropIn, loaded: main };
    seen.platform(seen.option(&["--listen"]).map(str::to_owned), layout)
}
