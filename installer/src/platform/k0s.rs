//! k0s: drop-ins in `/etc/k0s/containerd.d`, watched: k0s restarts its containerd when one changes.
//!
//! Up to 1.35 k0s itself merges what concerns CRI into `/run/k0s/containerd-cri.toml`; from 1.36 on containerd
//! 2 imports the folder, and a drop-in of version 2 is refused. Source: `pkg/component/worker/containerd`.

use std::path::{Path, PathBuf};

use super::{Form, Layout, Platform, Seen, TakeUp};
use crate::config::imports;
use crate::failure::{Reason, Stop};

const DROP_INS: &str = "/etc/k0s/containerd.d";

/// The first line of a configuration that k0s writes; one without it is the user's own.
const MANAGED: &str = "# k0s_managed=true";

pub(super) fn platform(seen: &Seen<'_>) -> Result<Platform, Stop> {
    let config = PathBuf::from(seen.option(&["--config", "-c"]).unwrap_or("/etc/k0s/containerd.toml"));
    let address = seen.option(&["--address", "-a"]).unwrap_or("/run/k0s/containerd.sock").to_owned();
    let text = seen.text(&config).unwrap_or_default();
    if text.lines().find(|line| !line.trim().is_empty()) != Some(MANAGED) {
        let layout = Layout { path: config.clone(), form: Form::Main, loaded: config };
        return Ok(seen.platform(Some(address), layout));
    }
    let own = Path::new(DROP_INS).join("kwasm.toml");
    let imports = imports(&text);
    let imported = imports.iter().any(|import| import.strip_suffix("/*.toml") == Some(DROP_INS));
    let merged = imports.iter().find(|import| import.ends_with("/containerd-cri.toml"));
    let layout = match (imported, merged) {
        (true, _) => Layout { path: own, form: Form::Import, loaded: config },
        (false, Some(merged)) => Layout { path: own, form: Form::Source, loaded: merged.into() },
        (false, None) => {
            let words = format!("{} imports neither {DROP_INS} nor what k0s merges from it", config.display());
            return Err(Stop::unchanged("look for drop-ins", Reason::NodeNotSupported, words));
        }
    };
    Ok(Platform { take_up: TakeUp::Watched, ..seen.platform(Some(address), layout) })
}
