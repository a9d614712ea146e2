//! How each runtime is to stand in the configuration, and which of those entries are ours to write.

use std::path::Path;

use super::binary;
use crate::config::Entry;
use crate::failure::{Reason, Stop};
use crate::observe::{Effective, Observed};
use crate::platform::Kind;
use crate::target::{Target, Wanted, WantedSource};

/// A runtime and how it is to stand in the configuration; `None`: it is there already.
pub(super) type Handler<'a> = (&'a Wanted, Option<Entry>);

/// How the runtimes are to stand in the configuration.
pub(super) fn entries<'a>(observed: &Observed, target: &'a Target) -> Result<Vec<Handler<'a>>, Stop> {
    let crio = observed.platform.kind == Kind::Crio;
    let entry = if crio { crio_entry } else { containerd_entry };
    target.runtimes.iter().map(|wanted| Ok((wanted, entry(wanted, observed)?))).collect()
}

/// Where shims are found by their names: nothing stands anywhere.
pub(super) fn by_name<'a>(observed: &Observed, target: &Target) -> Result<Vec<Handler<'a>>, Stop> {
    let step = "look for a way to register the runtime";
    let path = observed.platform.layout.path.display();
    for wanted in &target.runtimes {
        let name = &wanted.runtime.name;
        if wanted.source == WantedSource::Preinstalled {
            let words = format!("the CRI plugin is disabled in {path}: nothing can tell whether {name} is served");
            return Err(Stop::unchanged(step, Reason::CriNotAvailable, words)
                .with_remedy("on a machine with Docker alone, use the source `bundled`, `host`, `http` or `image`"));
        }
        if wanted.is_oci() {
            let words = format!("the CRI plugin is disabled in {path}, and Docker finds only shims by their names");
            return Err(Stop::unchanged(step, Reason::RuntimeKindNotSupported, words)
                .with_remedy("name the binary under `runtimes` in /etc/docker/daemon.json"));
        }
    }
    let ours = observed.own_names();
    match observed.named.keys().find(|link| !ours.iter().any(|(own, _)| own == *link)) {
        None => Ok(Vec::new()),
        Some(link) => {
            let words = format!("{} is somebody else's", link.display());
            Err(Stop::unchanged(step, Reason::HandlerConflict, words).with_remedy("take that file away"))
        }
    }
}

fn containerd_entry(wanted: &Wanted, observed: &Observed) -> Result<Option<Entry>, Stop> {
    let Some(path) = binary(wanted, observed).map(|path| path.display().to_string()) else { return Ok(None) };
    let handler = &wanted.runtime.handler;
    let plain = if wanted.is_oci() { Entry::oci(handler, &path) } else { Entry::shim(handler, &path) };
    let options = wanted.runtime.options.iter();
    let full = options.fold(plain, |entry, (name, value)| entry.with_option(name, value));
    Ok(Some(full.with_pod_annotations(&wanted.runtime.pod_annotations)))
}

/// CRI-O hands every annotation of a pod to its runtime, and has no table of options: they are keys.
fn crio_entry(wanted: &Wanted, observed: &Observed) -> Result<Option<Entry>, Stop> {
    let Some(path) = binary(wanted, observed) else { return Ok(None) };
    let handler = &wanted.runtime.handler;
    let shown = path.display().to_string();
    let plain = if wanted.is_oci() {
        Entry::crio_oci(handler, &shown)
    } else if is_crio_shim(&path) {
        Entry::crio_shim(handler, &shown)
    } else {
        let words = format!(
            "{}: CRI-O starts only shims that are called `containerd-shim-…-v2`, not {shown}",
            wanted.runtime.name
        );
        return Err(Stop::unchanged("look for a way to register the runtime", Reason::RuntimeKindNotSupported, words));
    };
    let options = wanted.runtime.options.iter();
    Ok(Some(options.fold(plain, |entry, (name, value)| entry.with_key(name, value))))
}

/// `RuntimeTypeVMBinaryPattern` in `pkg/config/config.go` of CRI-O.
fn is_crio_shim(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let inner = name.strip_prefix("containerd-shim-").and_then(|name| name.strip_suffix("-v2")).unwrap_or_default();
    !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+')
}

/// The entries that are ours to write: not those that somebody else wrote just so.
pub(super) fn sort_out(wanted: &[Handler<'_>], observed: &Observed, effective: &Effective) -> Result<Vec<Entry>, Stop> {
    let path = observed.platform.layout.loaded.display();
    let there = effective.dump.handlers();
    let mut ours = Vec::new();
    for (wanted, entry) in wanted {
        let handler = &wanted.runtime.handler;
        match (there.get(handler), entry) {
            (Some(_), None) if is_served(effective, handler) => {}
            (Some(_), None) => {
                let words = format!("CRI does not serve the handler `{handler}`, which is said to be preinstalled");
                return Err(Stop::unchanged("compare the handlers", Reason::HandlerMissing, words));
            }
            (None, Some(entry)) => ours.push(entry.clone()),
            (Some(table), Some(entry)) if entry.is_in(table) => {}
            (Some(table), Some(_)) => {
                let theirs = table.get("runtime_type").map(|kind| format!(": runtime_type = {kind}"));
                let theirs = theirs.unwrap_or_default();
                let words = format!("{path} has a handler `{handler}` of somebody else's{theirs}");
                return Err(Stop::unchanged("compare the handlers", Reason::HandlerConflict, words));
            }
            (None, None) => {
                let words = format!("{path} has no handler `{handler}`, which is said to be preinstalled");
                return Err(Stop::unchanged("compare the handlers", Reason::HandlerMissing, words));
            }
        }
    }
    Ok(ours)
}

/// Whether CRI serves a handler, as far as it tells.
fn is_served(effective: &Effective, handler: &str) -> bool {
    let served = &effective.cri.handlers;
    served.is_empty() || served.contains_key(handler)
}
