//! containerd under its own unit: packages, kubeadm, kind, minikube, EKS, AKS; and beside Docker, where its
//! CRI is switched off by design.

use std::path::{Path, PathBuf};

use super::evidence::config_of;
use super::{Form, Layout, Platform, Seen, evidence};

/// Folders that are on the `PATH` of every service of systemd, in its order.
const NAME_DIRS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

pub(super) fn platform(seen: &Seen<'_>) -> Platform {
    let process = seen.claim.process.as_ref();
    let remembered = seen.remembered().map(Path::to_owned);
    let path = process.map(config_of).or(remembered).unwrap_or_else(|| evidence::CONTAINERD_CONFIG.into());
    let kubelet = seen.evidence.has_kubelet();
    let form = if seen.claim.without_cri && !kubelet { Form::ByName } else { Form::Main };
    let layout = Layout { loaded: path.clone(), path, form };
    let mut platform = seen.platform(seen.option(&["--address", "-a"]).map(str::to_owned), layout);
    platform.name_dir = (!kubelet).then(|| name_dir(seen)).flatten();
    platform
}

fn name_dir(seen: &Seen<'_>) -> Option<PathBuf> {
    let mut dirs = NAME_DIRS.iter().map(PathBuf::from);
    dirs.find(|dir| {
        let real = seen.files().follow(dir);
        seen.files().metadata(dir).is_some() && seen.evidence.mounts.unfit_for_programs(&real).is_none()
    })
}
