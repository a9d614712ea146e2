//! A disk of a machine's own.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use super::VmError;
use super::image::{self, Image};
use crate::files::FileError;
use crate::preflight::{self, PreflightError};
use crate::session::Session;
use crate::tool;

/// The emulator.
pub(super) const EMULATOR: &str = "qemu-system-x86_64";
/// The programs that this machine must have, and the Debian package of each.
const PROGRAMS: [(&str, &str); 5] = [
    (EMULATOR, "--no-install-recommends qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debootstrap", "debootstrap"),
    ("dpkg-deb", "dpkg"),
    ("setpriv", "util-linux"),
];

/// A disk with a freshly installed system. It outlives the machines that boot from it, one after the other; the
/// emulator refuses a second one at the same time.
///
/// It is a file without a name: it is gone with this value, or with this process.
#[derive(Debug)]
pub struct Disk {
    file: File,
    image: Image,
}

impl Disk {
    /// A new disk. The first one ever takes some minutes, for the image that later ones are copied from.
    ///
    /// # Errors
    /// When this machine lacks something, or the image cannot be made.
    pub fn new(session: &Session) -> Result<Self, VmError> {
        check()?;
        Self::of(image::image(session)?)
    }

    /// A new disk that has Docker 26 as well, which starts when asked to (`systemctl start docker`) and uses the base
    /// system's containerd.
    ///
    /// # Errors
    /// When this machine lacks something, or the image cannot be made.
    pub fn with_docker(session: &Session) -> Result<Self, VmError> {
        check()?;
        Self::of(image::image_with_docker(session)?)
    }

    fn of(image: Image) -> Result<Self, VmError> {
        let folder = image.disk.parent().unwrap_or(&image.disk);
        let file = tempfile::tempfile_in(folder).map_err(FileError::new("make a file in", folder))?;
        let disk = Self { file, image };
        let mut copy = tool::command("cp", ["--sparse=auto", "--"]);
        tool::run(copy.arg(&disk.image.disk).arg(disk.path()))?;
        Ok(disk)
    }

    /// The kernel that belongs to it.
    pub(super) fn kernel(&self) -> &std::path::Path {
        &self.image.kernel
    }

    /// A path by which other processes can open it as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

fn check() -> Result<(), PreflightError> {
    preflight::check_root()?;
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| tool::find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (programs, packages) = missing.into_iter().unzip();
    Err(PreflightError::MissingPrograms { programs, packages })
}
