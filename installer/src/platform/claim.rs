//! Which daemon serves CRI on this node: a pure decision. Two that do are a contradiction, and so is a daemon
//! that runs while another is what the node would start the next time.

use std::fmt;
use std::path::{Path, PathBuf};

use super::evidence::{CONTAINERD_CONFIG, Evidence, config_of};
use crate::failure::{Reason, Stop};
use crate::host::system::{Running, Unit};

/// Which system runs the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// containerd under its own unit.
    Containerd,
    /// k3s, k3d among it.
    K3s,
    /// RKE2.
    Rke2,
    /// k0s.
    K0s,
    /// MicroK8s.
    MicroK8s,
    /// CRI-O.
    Crio,
    /// Talos Linux, which has no systemd.
    Talos,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "RKE2",
            Self::K0s => "k0s",
            Self::MicroK8s => "MicroK8s",
            Self::Crio => "CRI-O",
            Self::Talos => "Talos",
        })
    }
}

/// The daemon that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which system runs it.
    pub kind: Kind,
    /// The unit that runs it; `None` without systemd.
    pub unit: Option<String>,
    /// The daemon itself, if it runs.
    pub process: Option<Running>,
    /// What started the daemon, if that is a program of the distribution.
    pub supervisor: Option<Running>,
    /// The daemon's program.
    pub program: PathBuf,
    /// Whether the daemon's CRI is switched off.
    pub without_cri: bool,
}

/// Finds the daemon.
///
/// # Errors
/// If there is none, or what was seen contradicts itself.
pub fn claim(evidence: &Evidence, recorded: Option<&Path>) -> Result<Claim, Stop> {
    let running = running(evidence)?;
    let (without, serving): (Vec<Claim>, Vec<Claim>) = running.into_iter().partition(|claim| claim.without_cri);
    match &serving[..] {
        [one] => {
            let also = declared(evidence).find(|unit| unit.enabled && kind_of_unit(&unit.name) != Some(one.kind));
            also.map_or_else(|| Ok(one.clone()), |unit| Err(contradiction(&serving, Some(unit))))
        }
        [] => at_rest(evidence, without).or_else(|stop| ours_at_rest(evidence, recorded).ok_or(stop)),
        _ => Err(contradiction(&serving, None)),
    }
}

/// No daemon serves CRI: then it is the only one that is installed, or a containerd for Docker.
fn at_rest(evidence: &Evidence, without: Vec<Claim>) -> Result<Claim, Stop> {
    let units: Vec<&Unit> = declared(evidence).collect();
    let kinds: Vec<Kind> = units.iter().filter_map(|unit| kind_of_unit(&unit.name)).collect();
    match (&units[..], without.into_iter().find(|claim| claim.kind == Kind::Containerd)) {
        ([], Some(claim)) => Ok(claim),
        ([unit, ..], None) if kinds.iter().all(|kind| *kind == kinds[0]) => Ok(stopped(kinds[0], unit)),
        ([], None) => {
            let words = format!("no daemon that serves CRI was found: {}", evidence.shown());
            Err(Stop::unchanged("look for the container runtime", Reason::NodeNotSupported, words))
        }
        _ => {
            let words = format!("several container runtimes are installed and none serves CRI: {}", evidence.shown());
            Err(Stop::unchanged("look for the container runtime", Reason::NodeAmbiguous, words))
        }
    }
}

/// The daemon whose configuration an earlier run wrote: it may be that run that it does not start with.
fn ours_at_rest(evidence: &Evidence, recorded: Option<&Path>) -> Option<Claim> {
    const PLACES: [(&str, Kind); 6] = [
        ("/etc/containerd", Kind::Containerd),
        ("/etc/crio", Kind::Crio),
        ("/etc/k0s", Kind::K0s),
        ("/var/lib/rancher/k3s", Kind::K3s),
        ("/var/lib/rancher/rke2", Kind::Rke2),
        ("/var/snap/microk8s", Kind::MicroK8s),
    ];
    let (_, kind) = PLACES.iter().find(|(place, _)| recorded.is_some_and(|path| path.starts_with(place)))?;
    let unit = declared(evidence).find(|unit| kind_of_unit(&unit.name) == Some(*kind))?;
    Some(stopped(*kind, unit))
}

/// Units that do not run now and would serve CRI if they did.
fn declared(evidence: &Evidence) -> impl Iterator<Item = &Unit> {
    evidence.units.iter().filter(|unit| {
        let usual = evidence.without_cri.iter().any(|path| path.as_os_str() == CONTAINERD_CONFIG);
        let off = unit.name == "containerd.service" && usual;
        let borrows = matches!(kind_of_unit(&unit.name), Some(Kind::K3s | Kind::Rke2)) && evidence.borrows_daemon;
        unit.main_pid.is_none() && kind_of_unit(&unit.name).is_some() && !off && !borrows
    })
}

fn stopped(kind: Kind, unit: &Unit) -> Claim {
    let program = match kind {
        Kind::Containerd | Kind::Talos => "containerd",
        Kind::K3s => "/var/lib/rancher/k3s/data/current/bin/containerd",
        Kind::Rke2 => "/var/lib/rancher/rke2/bin/containerd",
        Kind::K0s => "/var/lib/k0s/bin/containerd",
        Kind::MicroK8s => "/snap/microk8s/current/bin/containerd",
        Kind::Crio => "crio",
    };
    let unit = Some(unit.name.clone());
    Claim { kind, unit, process: None, supervisor: None, program: program.into(), without_cri: false }
}

fn kind_of_unit(name: &str) -> Option<Kind> {
    match name {
        "containerd.service" => Some(Kind::Containerd),
        "crio.service" => Some(Kind::Crio),
        "k0scontroller.service" | "k0sworker.service" => Some(Kind::K0s),
        "rke2-server.service" | "rke2-agent.service" => Some(Kind::Rke2),
        "snap.microk8s.daemon-containerd.service" => Some(Kind::MicroK8s),
        "k3s.service" => Some(Kind::K3s),
        _ if name.starts_with("k3s-") => Some(Kind::K3s),
        _ => None,
    }
}

/// Every daemon that runs on the node itself, for whomever.
fn running(evidence: &Evidence) -> Result<Vec<Claim>, Stop> {
    let daemons = evidence.running.iter().filter(|process| matches!(process.name(), "containerd" | "crio"));
    let mut claims = Vec::new();
    for process in daemons {
        let ancestors: Vec<&Running> = evidence.ancestors(process).collect();
        // dockerd starts a containerd of its own where the system has none; that one never serves CRI.
        if ancestors.iter().any(|ancestor| ancestor.name() == "dockerd") {
            continue;
        }
        let without_cri = process.name() == "containerd" && evidence.without_cri.contains(&config_of(process));
        let (kind, supervisor) = match kind_of_process(evidence, process, &ancestors) {
            Some(found) => found,
            None if without_cri || evidence.os.id == "talos" => continue,
            None => {
                let words = format!(
                    "{} (pid {}) runs, but under no unit that is known: {}",
                    process.name(),
                    process.pid,
                    evidence.shown()
                );
                return Err(Stop::unchanged("look for the container runtime", Reason::NodeNotSupported, words));
            }
        };
        claims.push(Claim {
            kind,
            unit: unit(evidence, kind, process, supervisor),
            process: Some(process.clone()),
            supervisor: supervisor.cloned(),
            program: program(process),
            without_cri,
        });
    }
    Ok(claims)
}

fn kind_of_process<'a>(
    evidence: &Evidence,
    process: &Running,
    ancestors: &[&'a Running],
) -> Option<(Kind, Option<&'a Running>)> {
    let supervised = ancestors.iter().find_map(|ancestor| {
        let kind = match ancestor.name() {
            "k3s" => Kind::K3s,
            "rke2" => Kind::Rke2,
            "k0s" => Kind::K0s,
            _ => return None,
        };
        Some((kind, Some(*ancestor)))
    });
    let main = evidence.units.iter().find(|unit| unit.main_pid == Some(process.pid));
    let unit = || main.and_then(|unit| kind_of_unit(&unit.name)).map(|kind| (kind, None));
    // Its command line names the file that the service `cri` of Talos renders.
    let talos = || {
        let cri = evidence.os.id == "talos" && config_of(process).starts_with("/etc/cri");
        cri.then_some((Kind::Talos, None))
    };
    supervised.or_else(unit).or_else(talos)
}

/// The unit whose main process is the daemon or what started it.
fn unit(evidence: &Evidence, kind: Kind, process: &Running, supervisor: Option<&Running>) -> Option<String> {
    let pids = [Some(process.pid), supervisor.map(|supervisor| supervisor.pid)];
    let main = evidence.units.iter().find(|unit| unit.main_pid.is_some() && pids.contains(&unit.main_pid));
    let same_kind =
        || evidence.units.iter().find(|unit| unit.main_pid.is_some() && kind_of_unit(&unit.name) == Some(kind));
    main.or_else(same_kind).map(|unit| unit.name.clone())
}

/// Old versions of k3s are one program that behaves by the name it is called.
fn program(process: &Running) -> PathBuf {
    let is_named = process.program.file_name().is_some_and(|name| name == process.name());
    let empty = process.program.as_os_str().is_empty();
    if is_named || empty { non_empty(process) } else { process.program.with_file_name(process.name()) }
}

fn non_empty(process: &Running) -> PathBuf {
    if process.program.as_os_str().is_empty() { process.name().into() } else { process.program.clone() }
}

fn contradiction(serving: &[Claim], declared: Option<&Unit>) -> Stop {
    let mut seen: Vec<String> = serving
        .iter()
        .map(|claim| {
            let pid = claim.process.as_ref().map_or(0, |process| process.pid);
            format!("{} serves CRI ({}, pid {pid})", claim.kind, claim.program.display())
        })
        .collect();
    seen.extend(declared.map(|unit| format!("{} is enabled, but does not run", unit.name)));
    Stop::unchanged("look for the container runtime", Reason::NodeAmbiguous, seen.join(", and "))
}

#[cfg(test)]
#[path = "claim/tests.rs"]
mod tests;
