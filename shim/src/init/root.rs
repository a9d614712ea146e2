//! The container's root: mounted, entered, and furnished.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{chdir, pivot_root};
use rustix::fs::FileType;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::mount_options::MountOptions;
use super::mounts::{self, Source};
use super::target::{Descriptors, Root};
use super::{InitError, Setup, devices, step};
use crate::spec::{Mount, Role, Spec};

/// Makes the container's root the process's root, with all mounts of the specification in it.
///
/// Everything is mounted in the process's own mount namespace, after the root was entered: so no link in an image can lead a mount
/// out of it, and nothing needs to be unmounted when the container ends.
///
/// # Errors
/// The mount that failed.
pub(super) fn enter(setup: &Setup) -> Result<(), InitError> {
    let spec = &setup.spec;
    // What the host mounts later may appear in the container, never the other way round.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(step("separating the container's mounts from the host's"))?;
    let root =
        setup.bundle.join(if spec.root.path.as_os_str().is_empty() { Path::new("rootfs") } else { &spec.root.path });
    mount_root(setup, &root)?;
    // The sources of bind mounts are the host's: taken while the host's root can be seen.
    let sources = match spec.role() {
        Role::Sandbox => Vec::new(),
        Role::Guest => mounts::sources(&spec.mounts)?,
    };
    let descriptors = Descriptors::take()?;
    pivot(&root)?;
    furnish(spec, sources, Root::entered(&descriptors)?)
}

fn furnish(spec: &Spec, sources: Vec<Source<'_>>, root: Root) -> Result<(), InitError> {
    for source in sources {
        mounts::attach(&root, source)?;
    }
    if spec.role() == Role::Guest {
        devices::create(&root, spec)?;
        mask(&root, &spec.linux.masked_paths)?;
        make_read_only(&root, &spec.linux.readonly_paths)?;
    }
    root.done()?;
    if spec.root.readonly || spec.role() == Role::Sandbox {
        // A remount replaces all flags.
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
        mount_remount("/", flags, c"").map_err(step("making the root read-only"))?;
    }
    Ok(())
}

fn mount_root(setup: &Setup, root: &Path) -> Result<(), InitError> {
    fs::create_dir_all(root).map_err(step(format!("creating {}", root.display())))?;
    // A sandbox runs no program of its image: an empty folder is root enough.
    if setup.spec.role() == Role::Sandbox || setup.rootfs.is_empty() {
        let what = "mounting the container's root";
        mount_bind_recursive(root, root).map_err(step(what))?;
        return mount_remount(root, MountFlags::BIND | MountFlags::NODEV, c"").map_err(step(what));
    }
    setup.rootfs.iter().try_for_each(|layer| mount_layer(layer, root))
}

/// Mounts what containerd prepared, in the form of its mount options, and without devices: an image may hold a node of the host's disk.
fn mount_layer(layer: &Mount, root: &Path) -> Result<(), InitError> {
    let what = || format!("mounting the container's root ({} of {})", layer.kind, layer.source.display());
    let options = MountOptions::parse(&layer.kind, &layer.options);
    if options.bind.is_some() {
        mount_bind_recursive(&layer.source, root).map_err(step(what()))?;
        return mount_remount(root, MountFlags::BIND | MountFlags::NODEV | options.flags, c"").map_err(step(what()));
    }
    let (folder, data) = shortened(&options.data);
    let data = CString::new(data.join(","))
        .map_err(|_| InitError::Unsupported("a zero byte in a mount's options".to_owned()))?;
    if let Some(folder) = folder {
        chdir(&folder).map_err(step(format!("entering {}", folder.display())))?;
    }
    mount(&layer.source, root, layer.kind.as_str(), options.flags | MountFlags::NODEV, data.as_c_str())
        .map_err(step(what()))
}

/// The kernel takes one page of options, and an image of many layers has more. The lower folders' common parent becomes the working
/// folder and is cut off from them.
fn shortened(data: &[String]) -> (Option<PathBuf>, Vec<String>) {
    let lower = data.iter().find_map(|option| option.strip_prefix("lowerdir="));
    let folders: Vec<&Path> = lower.map(|lower| lower.split(':').map(Path::new).collect()).unwrap_or_default();
    let common = folders.first().and_then(|first| {
        first.ancestors().skip(1).find(|parent| folders.iter().all(|folder| folder.starts_with(parent)))
    });
    let Some(common) = common.filter(|common| folders.len() > 1 && *common != Path::new("/")) else {
        return (None, data.to_vec());
    };
    let relative: Vec<_> = folders.iter().filter_map(|folder| folder.strip_prefix(common).ok()?.to_str()).collect();
    let shorten = |option: &String| match option.starts_with("lowerdir=") {
        true => format!("lowerdir={}", relative.join(":")),
        false => option.clone(),
    };
    (Some(common.to_path_buf()), data.iter().map(shorten).collect())
}

fn pivot(root: &Path) -> Result<(), InitError> {
    chdir(root).map_err(step(format!("entering {}", root.display())))?;
    // The old root ends up on top of the new one, from where it is taken away (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".").map_err(step("changing the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("leaving the host's root"))?;
    chdir("/").map_err(step("entering the container's root"))
}

fn mask(root: &Root, paths: &[PathBuf]) -> Result<(), InitError> {
    for path in paths {
        let what = || format!("masking {}", path.display());
        let Some(masked) = root.existing(path).map_err(step(what()))? else { continue };
        if masked.file_type().map_err(step(what()))? == FileType::Directory {
            mount("tmpfs", masked.path(), "tmpfs", MountFlags::RDONLY, c"size=0k").map_err(step(what()))?;
            continue;
        }
        let null = root.existing(Path::new("/dev/null")).map_err(step(what()))?;
        let null = null.filter(|null| null.is_null_device());
        let null = null.ok_or_else(|| InitError::Unsupported(format!("{}: the container has no /dev/null", what())))?;
        mount_bind(null.path(), masked.path()).map_err(step(what()))?;
    }
    Ok(())
}

fn make_read_only(root: &Root, paths: &[PathBuf]) -> Result<(), InitError> {
    for path in paths {
        let what = || format!("making {} read-only", path.display());
        let Some(below) = root.existing(path).map_err(step(what()))? else { continue };
        mount_bind_recursive(below.path(), below.path()).map_err(step(what()))?;
        let Some(mounted) = root.existing(path).map_err(step(what()))? else { continue };
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(mounted.path(), flags, c"").map_err(step(what()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    #[test]
    fn lower_folders_are_shortened_to_their_common_parent() {
        let long = data(&["workdir=/s/9/work", "upperdir=/s/9/fs", "lowerdir=/s/2/fs:/s/1/fs"]);
        let short = data(&["workdir=/s/9/work", "upperdir=/s/9/fs", "lowerdir=2/fs:1/fs"]);
        assert_eq!(shortened(&long), (Some("/s".into()), short));
    }

    #[test]
    fn one_lower_folder_or_none_stays_as_it_is() {
        let one = data(&["lowerdir=/s/1/fs", "index=off"]);
        assert_eq!(shortened(&one), (None, one));
        assert_eq!(shortened(&[]), (None, Vec::new()));
    }
}
