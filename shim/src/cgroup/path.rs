//! From the specification's `cgroupsPath` to a folder.

use std::path::{Component, Path, PathBuf};

use super::scope::Scope;

/// A `cgroupsPath` that names no cgroup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the container's cgroupsPath {0:?} is neither a path nor slice:prefix:name")]
pub(crate) struct InvalidCgroupPath(String);

/// What a `cgroupsPath` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CgroupPath {
    /// The folder below a hierarchy's root.
    pub(super) folder: PathBuf,
    /// The scope for which systemd makes that folder.
    pub(super) scope: Option<Scope>,
}

/// Reads a `cgroupsPath`.
///
/// Two forms exist: a path (cgroup driver `cgroupfs`) and `slice:prefix:name` (driver `systemd`), which stands for the scope
/// `prefix-name.scope` in that slice. containerd chooses the form by kubelet's driver, whatever a runtime's own options say.
///
/// # Errors
/// If it is neither, or leads out of the hierarchy.
pub(super) fn parse(cgroups_path: &str) -> Result<CgroupPath, InvalidCgroupPath> {
    let invalid = || InvalidCgroupPath(cgroups_path.to_owned());
    let mut parts = cgroups_path.split(':');
    let path = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(path), None, ..) => CgroupPath { folder: path.trim_start_matches('/').into(), scope: None },
        (Some(slice), Some(prefix), Some(name), None)
            if !name.is_empty() && !prefix.contains('/') && !name.contains('/') =>
        {
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            let above = slice_folder(slice).ok_or_else(invalid)?;
            if name.ends_with(".slice") {
                CgroupPath { folder: above.join(name), scope: None }
            } else {
                let unit = unit(prefix, name);
                CgroupPath { folder: above.join(&unit), scope: Some(Scope { slice: slice.to_owned(), unit }) }
            }
        }
        _ => return Err(invalid()),
    };
    let inside = path.folder.components().all(|part| matches!(part, Component::Normal(_)));
    if inside && path.folder != Path::new("") { Ok(path) } else { Err(invalid()) }
}

fn unit(prefix: &str, name: &str) -> String {
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

    fn folder(cgroups_path: &str) -> PathBuf {
        parse(cgroups_path).expect("a cgroup").folder
    }

    #[test]
    fn the_cgroupfs_driver_writes_a_path() {
        assert_eq!(folder("/kubepods/besteffort/podX/c1"), Path::new("kubepods/besteffort/podX/c1"));
        assert_eq!(folder("/default/c1"), Path::new("default/c1"));
        assert_eq!(parse("/default/c1").unwrap().scope, None);
    }

    #[test]
    fn the_systemd_driver_writes_slice_prefix_and_name() {
        let path = parse("kubepods-besteffort-podX.slice:cri-containerd:c1").unwrap();
        let expected =
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice/cri-containerd-c1.scope";
        assert_eq!(path.folder, Path::new(expected));
        let slice = "kubepods-besteffort-podX.slice".to_owned();
        assert_eq!(path.scope, Some(Scope { slice, unit: "cri-containerd-c1.scope".to_owned() }));
    }

    #[test]
    fn the_folder_of_a_scope_follows_its_slice() {
        assert_eq!(folder(":docker:c1"), Path::new("system.slice/docker-c1.scope"));
        assert_eq!(folder("-.slice:a:b"), Path::new("a-b.scope"));
        assert_eq!(folder("a-b.slice::c"), Path::new("a.slice/a-b.slice/c.scope"));
    }

    #[test]
    fn a_path_that_leads_out_of_the_hierarchy_is_refused() {
        for path in ["/a/../../b", "", "/", "a:b", "a.slice:p:../x", "../x.slice:p:n", "a--b.slice:p:n"] {
            assert!(parse(path).is_err(), "{path}");
        }
    }
}
