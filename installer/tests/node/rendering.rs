//! How distributions make the file that their daemon loads.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kwasm_installer::host::Files;
use serde_json::{Map, Value as Json};

use crate::facts::{Facts, Rendered};
use crate::loading;

const BASE: &str = "{{ template \"base\" . }}";

/// Where a tree keeps what its distribution would render without anybody's addition: not a part of the node.
const BUILT_IN: &str = "/run/built-in.toml";

/// Remembers what the distribution itself contributes, before anything is changed.
pub(crate) fn remember(files: &Files, root: &Path, facts: &Facts) {
    let Some(rendered) = read(files, &facts.loaded) else { return };
    let built_in = match facts.rendered {
        Rendered::FromTemplate => template(files, facts)
            .and_then(|template| rendered.strip_suffix(template.strip_prefix(BASE)?).map(str::to_owned))
            .unwrap_or(rendered),
        Rendered::Never | Rendered::Merged | Rendered::Substituted => rendered,
    };
    fs::write(at(root, BUILT_IN), built_in).unwrap();
}

/// Empties `/run`, as a boot does.
pub(crate) fn forget_run(root: &Path) {
    let built_in = fs::read(at(root, BUILT_IN)).ok();
    fs::remove_dir_all(root.join("run")).unwrap();
    fs::create_dir(root.join("run")).unwrap();
    built_in.iter().for_each(|built_in| fs::write(at(root, BUILT_IN), built_in).unwrap());
}

/// Makes the file anew, as a start of the distribution does.
pub(crate) fn render(files: &Files, facts: &Facts) {
    let Some(text) = rendered(files, facts) else { return };
    let target = files.locate(&files.follow(Path::new(&facts.loaded)));
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::write(target, text).unwrap();
}

fn rendered(files: &Files, facts: &Facts) -> Option<String> {
    let built_in = || read(files, BUILT_IN);
    match facts.rendered {
        Rendered::Never => None,
        Rendered::FromTemplate => {
            let template = template(files, facts).unwrap_or_else(|| BASE.to_owned());
            let built_in = built_in()?;
            match &facts.renderer {
                Some(program) => Some(executed(program, &files.locate(Path::new(BUILT_IN)), &template)),
                None => Some(template.replace(BASE, &built_in)),
            }
        }
        Rendered::Merged => Some(loading::merged(files, &built_in()?, Path::new("/etc/k0s/containerd.d"))),
        Rendered::Substituted => {
            let template = read(files, "/var/snap/microk8s/current/args/containerd-template.toml")?;
            let values =
                [("SNAP", "/snap/microk8s/8612"), ("SNAP_DATA", "/var/snap/microk8s/8612"), ("RUNTIME", "runc")];
            let values =
                values.iter().chain(&[("SNAPSHOTTER", "overlayfs"), ("RUNTIME_TYPE", "io.containerd.runc.v2")]);
            Some(values.fold(template, |text, (name, value)| text.replace(&format!("${{{name}}}"), value)))
        }
    }
}

/// What a template renders to, if a real renderer is asked. It must: a k3s that cannot render does not start.
fn executed(renderer: &Path, built_in: &Path, template: &str) -> String {
    let mut command = Command::new(renderer);
    command.arg(built_in).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(template.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{template}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The template that counts: the one of containerd 2, where that is the daemon, before the older one.
fn template(files: &Files, facts: &Facts) -> Option<String> {
    let folder = Path::new(&facts.loaded).parent()?;
    let newer = (!facts.version.starts_with("1.")).then(|| read(files, folder.join("config-v3.toml.tmpl")));
    newer.flatten().or_else(|| read(files, folder.join("config.toml.tmpl")))
}

/// Whether the distribution watches its drop-ins.
pub(crate) fn watches(facts: &Facts) -> bool {
    facts.units.iter().any(|unit| unit.name.starts_with("k0s"))
}

/// Whether the daemon runs with something else than what is on the disk.
pub(crate) fn is_outdated(
    files: &Files,
    facts: &Facts,
    effective: Option<&Map<String, Json>>,
    loaded: Option<&Map<String, Json>>,
) -> bool {
    let changed = rendered(files, facts).is_some_and(|text| read(files, &facts.loaded) != Some(text));
    changed || effective != loaded
}

fn read(files: &Files, path: impl AsRef<Path>) -> Option<String> {
    files.read(path.as_ref()).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
