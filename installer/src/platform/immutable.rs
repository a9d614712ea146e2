//! Systems whose configuration cannot be changed, or would be forgotten: judged by what is mounted where the
//! file is; the system's name only helps to tell the way out.

use std::path::Path;

use super::{Kind, Layout, Refusal, Seen};

/// Why nothing can be changed here; `None` if it can.
pub(super) fn refusal(seen: &Seen<'_>, layout: &Layout) -> Option<Refusal> {
    if !layout.form.is_written() {
        return None;
    }
    let folder = layout.path.parent().unwrap_or(Path::new("/"));
    let rendered = || format!("{} is rendered from the machine configuration", layout.path.display());
    let why = if seen.claim.kind == Kind::Talos {
        rendered()
    } else {
        // A link may lead to another file system than its folder's.
        let file = seen.files().follow(&layout.path);
        let folders = [seen.files().follow(folder), file.parent().unwrap_or(Path::new("/")).to_owned()];
        let unfit = folders.iter().find_map(|real| Some((real, seen.evidence.mounts.unfit_for_files(real)?)));
        let (real, unfit) = unfit?;
        let shown = if *real == folders[0] { folder } else { real };
        format!("{} {unfit}", shown.display())
    };
    let why = if seen.evidence.os.name.is_empty() { why } else { format!("{}: {why}", seen.evidence.os.name) };
    Some(Refusal { why, way_out: way_out(&seen.evidence.os.id).to_owned() })
}

fn way_out(os: &str) -> &'static str {
    match os {
        "talos" => {
            "install the runtime as a system extension, register it with `machine.files` in /etc/cri/conf.d, and use the source `preinstalled`"
        }
        "bottlerocket" => "use nodes of another system: Bottlerocket's settings know no further runtimes",
        "cos" => {
            "use nodes with the image type `ubuntu_containerd`: Container-Optimized OS restores its configuration at each start"
        }
        "flatcar" => {
            "copy /usr/share/containerd/config.toml to /etc/containerd/config.toml and set CONTAINERD_CONFIG to it in a drop-in of containerd.service"
        }
        _ => "register the handler where the system's image is built, and use the source `preinstalled`",
    }
}
