//! Whether somebody still uses a runtime that would go.

use std::collections::BTreeSet;

use crate::artifacts::runtimes_dir;
use crate::failure::{Reason, Stop};
use crate::observe::{Effective, Observed};
use crate::target::{Target, Wanted};

/// Whether it depends on the pods that run if the target can be reached: CRI is asked for them only then.
#[must_use]
pub fn asks_for_pods(observed: &Observed, target: &Target, effective: &Effective) -> bool {
    let tells = observed.platform.layout.form.is_written() && effective.cri.ready;
    tells && !observed.forced && !leaving(observed, target).is_empty()
}

/// Promise: a runtime in use is not removed. A newer version of one that stays may be installed beside it, and one whose
/// removal was forced is none any more: its binaries stay until nobody runs them.
pub(super) fn refuse(observed: &Observed, target: &Target, effective: &Effective) -> Result<(), Stop> {
    // While containers of an OCI runtime run, no process runs its binary; that of a `host` runtime is not ours.
    let mut users = pods(observed, target, effective);
    // Containers of Docker and `ctr` are no pods.
    users.extend(processes(observed, target));
    if users.is_empty() || observed.forced {
        return Ok(());
    }
    let words = format!("still running: {}", users.join(", "));
    Err(Stop::unchanged("look for containers of the runtime", Reason::RuntimeInUse, words))
}

fn pods(observed: &Observed, target: &Target, effective: &Effective) -> Vec<String> {
    let leaving = leaving(observed, target);
    let using = effective.pods.iter().filter(|pod| leaving.contains(&pod.handler));
    let shown: BTreeSet<String> =
        using.map(|pod| format!("{}/{} (handler {})", pod.namespace, pod.name, pod.handler)).collect();
    shown.into_iter().collect()
}

/// The handlers of ours that the target does not have any more, or gives to another runtime.
fn leaving(observed: &Observed, target: &Target) -> BTreeSet<String> {
    let known = observed.runtimes_before();
    let stays = |handler: &String| {
        let mut wanted = target.runtimes.iter().filter(|wanted| wanted.runtime.handler == *handler);
        let mut before = known.iter().filter(|runtime| runtime.handler == *handler);
        wanted.next().is_some_and(|wanted| before.all(|runtime| wanted.succeeds(runtime)))
    };
    observed.handlers_before().into_iter().filter(|handler| !stays(handler)).collect()
}

fn processes(observed: &Observed, target: &Target) -> Vec<String> {
    let stays: BTreeSet<&str> = target.runtimes.iter().filter_map(Wanted::artifact).collect();
    let known = observed.artifacts_before();
    let goes: BTreeSet<&str> = known.iter().map(String::as_str).filter(|name| !stays.contains(name)).collect();
    let runtimes = runtimes_dir(&observed.install_dir);
    let runs = observed.processes.iter();
    runs.filter(|process| goes.iter().any(|name| process.program.starts_with(runtimes.join(name))))
        .map(ToString::to_string)
        .collect()
}
