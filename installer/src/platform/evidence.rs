//! What is looked at to find out what kind of node this is: never a label, always what is there and runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::text;
use crate::config::dump::disables_cri;
use crate::failure::{Reason, Stop};
use crate::host::mounts::Mounts;
use crate::host::system::{Running, Unit};
use crate::observe::Host;

/// The services that may run a daemon that serves CRI, or need one.
const UNITS: [&str; 12] = [
    "containerd.service",
    "crio.service",
    "k0scontroller.service",
    "k0sworker.service",
    "k3s-*.service",
    "k3s-agent.service",
    "k3s.service",
    "kubelet.service",
    "rke2-agent.service",
    "rke2-server.service",
    "snap.microk8s.daemon-containerd.service",
    "docker.service",
];

/// The programs of daemons that serve CRI, of those that start them, and of kubelets.
const PROGRAMS: [&str; 9] =
    ["containerd", "crio", "dockerd", "k0s", "k3s", "kubelet", "kubelite", "rke2", "cri-dockerd"];

/// Everything that tells kinds of nodes apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the system calls itself.
    pub os: Os,
    /// The services that there are, whether they run or not.
    pub units: Vec<Unit>,
    /// The processes of interest, the first of the node among them.
    pub running: Vec<Running>,
    /// What is mounted.
    pub mounts: Mounts,
    /// Configurations of a containerd in which CRI is switched off.
    pub without_cri: Vec<PathBuf>,
    /// Whether k3s or RKE2 were told to use somebody else's daemon.
    pub borrows_daemon: bool,
}

/// From `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Os {
    /// Such as `debian`.
    pub id: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
}

impl Evidence {
    /// Looks.
    ///
    /// # Errors
    /// If systemd runs the node and cannot be asked.
    pub fn gather(host: &Host) -> Result<Self, Stop> {
        let running = host.system.running(&PROGRAMS);
        let mut evidence = Self { os: Os::read(host), running, mounts: host.system.mounts(), ..Self::default() };
        if evidence.has_systemd() {
            let units = host.system.units(&UNITS);
            evidence.units = units.map_err(|error| {
                Stop::unchanged("ask systemd", Reason::NodeNotSupported, error).with_remedy(
                    "`systemctl show` must answer on the node: this version knows k3d and Talos without it",
                )
            })?;
        }
        let configs = evidence.running.iter().filter(|process| process.name() == "containerd").map(config_of);
        let usual = [PathBuf::from(CONTAINERD_CONFIG)];
        evidence.without_cri = configs
            .chain(usual)
            .filter(|path| text(&host.files, path).is_some_and(|text| disables_cri(&text)))
            .collect();
        evidence.borrows_daemon = ["k3s", "rke2"].iter().any(|name| {
            let config = text(&host.files, &PathBuf::from(format!("/etc/rancher/{name}/config.yaml")));
            config.is_some_and(|config| config.lines().any(|line| line.starts_with("container-runtime-endpoint:")))
        }) || evidence.running.iter().any(|process| {
            let told = process.option(&["--container-runtime-endpoint"]).is_some();
            (told || process.arguments.iter().any(|word| word == "--docker")) && process.name() != "kubelet"
        });
        Ok(evidence)
    }

    /// Whether process 1 is systemd. A process 1 that does not tell is taken for it.
    #[must_use]
    pub fn has_systemd(&self) -> bool {
        self.first().is_none_or(|first| {
            let program = first.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            program.is_empty() || program.starts_with("systemd")
        })
    }

    /// Process 1.
    #[must_use]
    pub fn first(&self) -> Option<&Running> {
        self.running.iter().find(|process| process.pid == 1)
    }

    /// Whether a kubelet runs, on its own or in another program, or would at the next start of the node.
    #[must_use]
    pub fn has_kubelet(&self) -> bool {
        let names = ["kubelet", "kubelite", "k3s", "rke2", "k0s"];
        let enabled = self.units.iter().any(|unit| unit.name == "kubelet.service" && unit.enabled);
        enabled || self.running.iter().any(|process| names.contains(&process.name()))
    }

    /// The processes that started a process, the nearest first, as far as they are of interest.
    pub fn ancestors<'a>(&'a self, process: &'a Running) -> impl Iterator<Item = &'a Running> {
        let parent_of = |process: &Running| {
            let parent = process.parent;
            self.running.iter().find(move |other| other.pid == parent && other.pid != 1)
        };
        std::iter::successors(parent_of(process), move |process| parent_of(process)).take(self.running.len())
    }

    /// Everything that was seen, in one line.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut seen: Vec<String> = Vec::new();
        if !self.os.name.is_empty() {
            seen.push(self.os.name.clone());
        }
        seen.extend(self.first().map(|first| format!("process 1 is {}", first.program.display())));
        seen.extend(self.units.iter().map(|unit| {
            let state = if unit.main_pid.is_some() { "runs" } else { "does not run" };
            format!("{} {state}", unit.name)
        }));
        let others = self.running.iter().filter(|process| process.pid != 1);
        seen.extend(others.map(|process| format!("{} runs (pid {})", process.name(), process.pid)));
        seen.join(", ")
    }
}

/// What containerd reads if nobody names another file.
pub(super) const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// The configuration that a containerd was told to read.
pub(super) fn config_of(process: &Running) -> PathBuf {
    process.option(&["--config", "-c"]).unwrap_or(CONTAINERD_CONFIG).into()
}

impl Os {
    fn read(host: &Host) -> Self {
        let places = ["/etc/os-release", "/usr/lib/os-release"].map(Path::new);
        let text = places.iter().find_map(|path| text(&host.files, path)).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let values: BTreeMap<&str, &str> = pairs.map(|(key, value)| (key, value.trim_matches(['"', '\'']))).collect();
        let value = |key: &str| values.get(key).copied().unwrap_or_default().to_owned();
        Self { id: value("ID"), name: value("PRETTY_NAME") }
    }
}
