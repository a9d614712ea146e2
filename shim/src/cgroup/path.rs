//! From the specification's `cgroupsPath` to a folder.

use std::path::{Component, Path, PathBuf};

/// A `cgroupsPath` that names no cgroup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the container's cgroupsPath {0:?} is neither a path nor slice:prefix:name")]
pub(crate) struct InvalidCgroupPath(String);

/// The folder below a hierarchy's root.
///
/// Two forms exist: a path (cgroup driver `cgroupfs`) and `slice:prefix:name` (driver `systemd`), which stands for the folder that
/// systemd gives the scope `prefix-name.scope`.
///
/// # Errors
/// If it is neither, or leads out of the hierarchy.
pub(crate) fn relative(cgroups_path: &str) -> Result<PathBuf, InvalidCgroupPath> {
    let invalid = || InvalidCgroupPath(cgroups_path.to_owned());
    let mut parts = cgroups_path.split(':');
    let path = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(path), None, ..) => PathBuf::from(path.trim_start_matches('/')),
        (Some(slice), Some(prefix), Some(name), None)
            if !name.is_empty() && !prefix.contains('/') && !name.contains('/') =>
        {
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            let unit = if name.ends_with(".slice") { name.to_owned() } else { scope(prefix, name) };
            slice_folder(slice).ok_or_else(invalid)?.join(unit)
        }
        _ => return Err(invalid()),
    };
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if inside && path != Path::new("") { Ok(path) } else { Err(invalid()) }
}

fn scope(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") }
}

/// `a-b-c.slice` lies in `a.slice/a-b.slice/a-b-c.slice` (systemd.slice(5)).
fn slice_folder(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    if name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    Some(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroupfs_driver_writes_a_path() {
        assert_eq!(relative("/kubepods/besteffort/podX/c1"), Ok("kubepods/besteffort/podX/c1".into()));
        assert_eq!(relative("/default/c1"), Ok("default/c1".into()));
    }

    #[test]
    fn the_systemd_driver_writes_slice_prefix_and_name() {
        assert_eq!(
            relative("kubepods-besteffort-podX.slice:cri-containerd:c1"),
            Ok("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice/cri-containerd-c1.scope"
                .into())
        );
        assert_eq!(relative(":docker:c1"), Ok("system.slice/docker-c1.scope".into()));
        assert_eq!(relative("-.slice:a:b"), Ok("a-b.scope".into()));
    }

    #[test]
    fn a_path_that_leads_out_of_the_hierarchy_is_refused() {
        for path in ["/a/../../b", "", "/", "a:b", "a.slice:p:../x", "../x.slice:p:n", "a--b.slice:p:n"] {
            assert!(relative(path).is_err(), "{path}");
        }
    }
}
