//! The device files of a container.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{InitError, step};
use crate::spec::{Device, Spec};

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
pub(super) fn create(spec: &Spec) -> Result<(), InitError> {
    if !spec.mounts.iter().any(|mount| mount.destination == Path::new("/dev") && mount.kind == "tmpfs") {
        return Ok(());
    }
    let usual = USUAL.map(|(path, major, minor)| Device {
        path: PathBuf::from(path),
        kind: "c".to_owned(),
        major,
        minor,
        file_mode: Some(0o666),
        uid: 0,
        gid: 0,
    });
    for device in usual.iter().chain(&spec.linux.devices) {
        node(device).map_err(step(format!("creating the device {}", device.path.display())))?;
    }
    for (target, link) in LINKS {
        match symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(step(format!("linking {link}"))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn node(device: &Device) -> io::Result<()> {
    let Device { path, kind, major, minor, file_mode, uid, gid } = device;
    let file_type = match kind.as_str() {
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mode = file_mode.unwrap_or(0o666) & 0o7777;
    match mknodat(CWD, path, file_type, Mode::from_raw_mode(mode), makedev(*major, *minor)) {
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        made => made?,
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    chown(path, Some(*uid), Some(*gid))
}
