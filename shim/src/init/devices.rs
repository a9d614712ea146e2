//! The device files of a container.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::target::{Root, Target};
use super::{InitError, step};
use crate::in_root::Missing;
use crate::spec::{Device, DeviceKind, Spec};

/// What every container has (OCI runtime specification, "Default Devices"): path, major and minor number.
const USUAL: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that programs expect.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Creates the device files, if the container has a `/dev` of its own.
///
/// # Errors
/// The device that cannot be created.
pub(super) fn create(root: &Root, spec: &Spec) -> Result<(), InitError> {
    if !spec.mounts.iter().any(|mount| mount.destination == Path::new("/dev") && mount.kind == "tmpfs") {
        return Ok(());
    }
    let usual = USUAL.map(|(path, major, minor)| Device {
        path: PathBuf::from(path),
        kind: DeviceKind::Character,
        major,
        minor,
        file_mode: Some(0o666),
        uid: 0,
        gid: 0,
    });
    for device in usual.iter().chain(&spec.linux.devices) {
        node(root, device).map_err(step(format!("creating the device {}", device.path.display())))?;
    }
    for (target, link) in LINKS {
        let what = || format!("linking {link}");
        let (folder, name) = folder_and_name(root, Path::new(link)).map_err(step(what()))?;
        match symlinkat(target, &folder, name) {
            Err(Errno::EXIST) => {}
            linked => linked.map_err(step(what()))?,
        }
    }
    Ok(())
}

fn node(root: &Root, device: &Device) -> io::Result<()> {
    let Device { path, kind, major, minor, file_mode, uid, gid } = device;
    let file_type = match kind {
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Fifo => FileType::Fifo,
        DeviceKind::Other(name) => return Err(io::Error::other(format!("there is no device of the type {name:?}"))),
    };
    let (folder, name) = folder_and_name(root, path)?;
    let mode = Mode::from_raw_mode(file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&folder, name, file_type, mode, makedev(*major, *minor)) {
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    // Just made, in a folder that no other process can write to: no link.
    chmodat(&folder, name, mode, AtFlags::empty())?;
    let (owner, group) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    Ok(chownat(&folder, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The open folder of a path, and the path's last part, which nobody follows.
fn folder_and_name<'a>(root: &Root, path: &'a Path) -> io::Result<(Target, &'a OsStr)> {
    let (folder, name) = path.parent().zip(path.file_name()).ok_or(Errno::INVAL)?;
    Ok((root.place(folder, Missing::Folder)?, name))
}
