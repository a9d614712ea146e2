//! What the daemon makes of a configuration, and what it serves now.

use std::time::Duration;

use super::{Host, Loadable, Observed, load};
use crate::config::dump::Dump;
use crate::failure::{Reason, Stop};
use crate::host::system::{CriStatus, Pod};
use crate::platform::{Form, Kind};
use crate::target::Target;

/// What the daemon makes of a configuration, and what it serves now.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The configuration without us.
    pub dump: Dump,
    /// What CRI says now.
    pub cri: CriStatus,
    /// The socket of CRI.
    pub socket: String,
    /// The pods that run, where they were asked for.
    pub pods: Vec<Pod>,
}

/// Finds out what the daemon makes of `base`, the configuration without us, and asks CRI.
///
/// # Errors
/// If the daemon refuses it, or CRI is switched off or does not answer although no transaction is unfinished.
pub fn effective(host: &Host, observed: &Observed, base: &Loadable, target: &Target) -> Result<Effective, Stop> {
    let platform = &observed.platform;
    if platform.layout.form == Form::ByName {
        return Ok(Effective::default());
    }
    let path = platform.layout.loaded.display();
    let step = format!("load {path} with {}", platform.kind.daemon());
    let dump = load(host, observed, base)
        .map_err(|error| not_loadable(platform.kind, &error.stop(&step, Reason::ConfigNotLoadable)))?;
    if dump.disables_cri() {
        let words = format!("the CRI plugin is disabled in {path}");
        let unit = &platform.daemon.unit;
        let remedy = format!(
            "if the kubelet uses this daemon, take \"cri\" out of disabled_plugins in {path} and restart {unit}"
        );
        return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words).with_remedy(&remedy));
    }
    let socket = platform.daemon.address.clone().unwrap_or_else(|| dump.socket().to_owned());
    let cri = match ask_patiently(host, &socket) {
        Ok(cri) => cri,
        // Our own earlier run may have left it so, or what this run takes out: then this run mends it.
        Err(_) if observed.interrupted() || takes_all_out(observed, target) => CriStatus::default(),
        Err(words) => return Err(Stop::unchanged("ask CRI", Reason::CriNotAvailable, words)),
    };
    if platform.kind == Kind::Crio && cri.ready && cri.handlers.is_empty() {
        let words = format!("CRI-O {} does not tell which handlers it serves", platform.daemon.version);
        return Err(Stop::unchanged("ask CRI", Reason::CrioTooOld, words));
    }
    Ok(Effective { dump, cri, socket, pods: Vec::new() })
}

/// Asks CRI for the pods that run.
///
/// # Errors
/// If it does not tell although no transaction is unfinished.
pub fn pods(host: &Host, observed: &Observed, socket: &str) -> Result<Vec<Pod>, Stop> {
    const REMEDY: &str = "`crictl pods` must list the node's pods; by hand, --force takes the configuration away without asking for them";
    match host.system.pods(socket) {
        Ok(pods) => Ok(pods),
        // What an earlier run began has to come to an end.
        Err(_) if observed.interrupted() => Ok(Vec::new()),
        Err(error) => {
            let words = format!("cannot find out which pods run: {error}");
            Err(Stop::unchanged("ask CRI for its pods", Reason::CriNotAvailable, words).with_remedy(REMEDY))
        }
    }
}

fn takes_all_out(observed: &Observed, target: &Target) -> bool {
    target.runtimes.is_empty() && observed.state.config.is_some()
}

/// CRI-O tells in its own way what it would load.
fn not_loadable(kind: Kind, stop: &Stop) -> Stop {
    const REMEDY: &str = "repair the file: `crio config` must print a configuration; CRI-O keeps running with the one it has loaded until its next restart";
    let stop = stop.clone();
    if kind == Kind::Crio && stop.reason == Reason::ConfigNotLoadable { stop.with_remedy(REMEDY) } else { stop }
}

fn ask_patiently(host: &Host, socket: &str) -> Result<CriStatus, String> {
    // A daemon that somebody else has just restarted needs a moment.
    const TRIES: usize = 40;
    let mut words = String::new();
    for _ in 0..TRIES {
        match host.system.cri(socket) {
            Ok(status) if status.ready => return Ok(status),
            Ok(status) => words = format!("the condition RuntimeReady is false: {}", status.message),
            Err(error) => words = error.to_string(),
        }
        host.system.pause(Duration::from_millis(250));
    }
    Err(words)
}
