//! k3s and RKE2: each start renders containerd's configuration anew, from a template and what it imports.
//!
//! A drop-in is used where the rendered configuration imports it (since 2026) and containerd merges it:
//! containerd 1.x would replace the whole section of CRI by it. Elsewhere a template includes the built-in
//! one, or the user's own template gets our block at its end. Sources: `pkg/agent/containerd/config.go` and
//! `pkg/agent/templates/templates.go` of k3s, which RKE2 uses as well.

use std::path::{Path, PathBuf};

use super::{Form, Kind, Layout, Platform, Refusal, Seen, numbers};
use crate::config::{Dialect, edit, imports, template};
use crate::failure::{Reason, Stop};

/// The template that containerd 2's configuration is made from; it beats the older one.
const TEMPLATE_V3: &str = "config-v3.toml.tmpl";

const TEMPLATE_V2: &str = "config.toml.tmpl";

/// The first releases of each minor version that know the template `base`, from k3s' documentation; RKE2 has
/// the same numbers.
const BASE_SINCE: [(u32, u32); 5] = [(24, 17), (25, 13), (26, 8), (27, 5), (28, 1)];

pub(super) fn platform(seen: &Seen<'_>) -> Result<Platform, Stop> {
    let name = if seen.claim.kind == Kind::Rke2 { "rke2" } else { "k3s" };
    let folders = seen.remembered().into_iter().flat_map(Path::ancestors).map(|folder| folder.join("config.toml"));
    let remembered = folders.into_iter().find(|config| seen.files().metadata(config).is_some());
    let usual = PathBuf::from(format!("/var/lib/rancher/{name}/agent/etc/containerd/config.toml"));
    let told = seen.option(&["--config", "-c"]).map(PathBuf::from);
    let rendered = told.or(remembered).unwrap_or(usual);
    let Some(text) = seen.text(&rendered) else {
        let words = format!("{} has not written {} yet", seen.claim.kind, rendered.display());
        let remedy =
            format!("start {} once, so that it writes its configuration, then run this again", seen.claim.kind);
        return Err(
            Stop::unchanged("read the rendered configuration", Reason::NodeNotSupported, words).with_remedy(&remedy)
        );
    };
    let layout = layout(seen, &rendered, &text)?;
    let told = seen.option(&["--address", "-a"]).map(str::to_owned);
    let usual = (!text.contains("[grpc]")).then(|| "/run/k3s/containerd/containerd.sock".to_owned());
    let mut platform = seen.platform(told.or(usual), layout);
    // `…/agent/etc/containerd/config.toml` and `…/agent/containerd/containerd.log`.
    let agent = rendered.ancestors().nth(3);
    platform.daemon.log = agent.map(|agent| agent.join("containerd/containerd.log"));
    // Some releases of k3s register by themselves what they find in /opt/kwasm/bin: a table would come twice.
    platform.install_dirs.reverse();
    Ok(platform)
}

fn layout(seen: &Seen<'_>, rendered: &Path, text: &str) -> Result<Layout, Stop> {
    let folder = rendered.parent().unwrap_or(Path::new("/"));
    let exists = |path: &Path| seen.files().metadata(path).is_some();
    let made = |path: PathBuf, form| Layout { path, form, loaded: rendered.to_owned() };
    let newer = matches!(Dialect::of(text), Ok(dialect) if dialect >= Dialect::V3);
    let [v3, v2] = [TEMPLATE_V3, TEMPLATE_V2].map(|name| folder.join(name));
    let recorded = seen.recorded.filter(|path| path.parent() == Some(folder) && exists(path));
    if let Some(template) = recorded {
        let counts = template == if newer { &v3 } else { &v2 };
        return if counts { Ok(made(template.to_owned(), Form::Template)) } else { Err(overruled(rendered, template)) };
    }
    let imports = imports(text);
    let mut globs = imports.iter().filter_map(|import| import.strip_suffix("/*.toml").map(Path::new));
    let imported = globs.find(|drop_ins| drop_ins.starts_with(folder));
    if let Some(drop_ins) = imported.filter(|_| seen.version.major >= 2) {
        return Ok(made(drop_ins.join("kwasm.toml"), Form::Import));
    }
    let stale = if newer { !exists(&v3) && exists(&v2) } else { exists(&v3) && seen.version.major >= 2 };
    let (template, other) = if newer { (v3, v2) } else { (v2, v3) };
    if stale {
        return Err(not_rendered(rendered, &other));
    }
    if let Some(own) = seen.text(&template) {
        let dialect = if newer { Dialect::V3 } else { Dialect::V2 };
        let known = edit::handlers(text, dialect).unwrap_or_default();
        if template::unconditional(&own, dialect).iter().any(|handler| !known.contains_key(handler)) {
            return Err(not_rendered(rendered, &template));
        }
    }
    let form = match without_base(seen).filter(|_| !exists(&template)) {
        Some(refusal) => Form::Fixed(refusal),
        None => Form::Template,
    };
    Ok(made(template, form))
}

fn not_rendered(rendered: &Path, template: &Path) -> Stop {
    let words = format!("{} has changed since {} was rendered from it", template.display(), rendered.display());
    Stop::unchanged("look for templates", Reason::NodeAmbiguous, words)
        .with_remedy("restart the unit of k3s or RKE2, so that it is rendered anew, then run this again")
}

fn overruled(rendered: &Path, template: &Path) -> Stop {
    let words =
        format!("{} is no longer rendered from {}, where our handlers are", rendered.display(), template.display());
    let remedy = format!(
        "move what stands in the template that counts now into {}, or take our block out of that by hand",
        template.display()
    );
    Stop::unchanged("look for templates", Reason::NodeAmbiguous, words).with_remedy(&remedy)
}

/// Why no template can be made that includes the built-in one: an older k3s would not start with it.
fn without_base(seen: &Seen<'_>) -> Option<Refusal> {
    let supervisor = seen.claim.supervisor.as_ref()?;
    let version = seen.host.system.daemon_version(&supervisor.program).ok()?;
    let (major, minor) = numbers(&version);
    let patch: u32 = version.split(['.', '-', '+']).nth(2).and_then(|patch| patch.parse().ok()).unwrap_or(0);
    let knows = match BASE_SINCE.iter().find(|(known, _)| *known == minor) {
        Some((_, since)) => patch >= *since,
        None => minor > 28,
    };
    (major == 1 && !knows).then(|| Refusal {
        why: format!("{} {version} does not know the template `base`", seen.claim.kind),
        way_out: "update it to 1.28.1 or newer, or write a containerd template of your own".to_owned(),
    })
}
