//! The mounts of this machine, as the kernel lists them.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use crate::files::{self, FileError};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// How long a busy mount may stay busy: what uses it is being killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One line of the kernel's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The type of its file system.
    pub(crate) kind: String,
}

/// Every mount that this process sees, in the order they were made.
pub(crate) fn all() -> Result<Vec<Mount>, FileError> {
    Ok(parse(&files::read(Path::new(MOUNTINFO))?))
}

/// Reads the format of `/proc/self/mountinfo`, see proc(5).
fn parse(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = unescape(before.split(' ').nth(4)?);
        Some(Mount { point, kind: after.split(' ').next()?.to_owned() })
    };
    text.lines().filter_map(mount).collect()
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Mounts `lower` (topmost first) with `upper` over them at `target`.
pub(crate) fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<(), FileError> {
    let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    let options = std::ffi::CString::new(options).map_err(|error| FileError::new("mount", target)(error.into()))?;
    rustix::mount::mount("overlay", target, "overlay", rustix::mount::MountFlags::empty(), options.as_c_str())
        .map_err(|error| FileError::new("mount an overlay at", target)(error.into()))
}

/// Unmounts everything at or below `folder`, waiting for what is busy. Returns what stayed.
pub(crate) fn remove_below(folder: &Path) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut errors = Vec::new();
        for mount in below(folder).into_iter().rev() {
            if let Err(error) = unmount(&mount, UnmountFlags::NOFOLLOW) {
                errors.push(format!("mount {}: {error}", mount.display()));
            }
        }
        let left = below(folder);
        if left.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            for mount in left.iter().rev() {
                // Out of the tree at least; the kernel lets go when its last user does.
                let _ = unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            }
            return if below(folder).is_empty() { Vec::new() } else { errors };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mounts = all().unwrap_or_default();
    mounts.into_iter().map(|mount| mount.point).filter(|point| point.starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Mount, parse};

    #[test]
    fn a_line_with_optional_fields_is_read() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\n";
        assert_eq!(parse(text), [Mount { point: "/mnt2".into(), kind: "ext3".into() }]);
    }

    #[test]
    fn a_blank_in_a_path_is_unescaped() {
        let text = "36 35 98:0 / /a\\040b rw - tmpfs none rw\n";
        assert_eq!(parse(text)[0].point.to_str(), Some("/a b"));
    }
}
