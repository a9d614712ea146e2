//! Whether this machine can hold a cluster, asked before anything is made.

use crate::tool;

/// Why this machine cannot hold a cluster.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The user is not root.
    #[error("a cluster needs root: run this as root")]
    NotRoot,
    /// The operating system is another.
    #[error("a cluster needs Linux on x86-64, this is {os} on {architecture}")]
    Unsupported {
        /// The operating system.
        os: &'static str,
        /// The processor.
        architecture: &'static str,
    },
    /// Programs are missing.
    #[error("missing on this machine: {}; on Debian: apt-get install {}", programs.join(", "), packages.join(" "))]
    MissingPrograms {
        /// The programs.
        programs: Vec<&'static str>,
        /// The Debian packages that bring them.
        packages: Vec<&'static str>,
    },
}

/// The programs that are run, and the Debian package of each.
const PROGRAMS: [(&str, &str); 12] = [
    ("systemd-nspawn", "systemd-container"),
    ("journalctl", "systemd"),
    ("debootstrap", "debootstrap"),
    ("buildah", "buildah"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("dpkg", "dpkg"),
    ("cc", "gcc"),
    ("go", "golang-go"),
];

/// Whether this machine can hold a cluster.
pub(crate) fn check() -> Result<(), PreflightError> {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    if os != "linux" || architecture != "x86_64" {
        return Err(PreflightError::Unsupported { os, architecture });
    }
    check_root()?;
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| tool::find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(PreflightError::MissingPrograms { programs: missing.iter().map(|(program, _)| *program).collect(), packages })
}

/// Whether the user is root.
pub(crate) fn check_root() -> Result<(), PreflightError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(PreflightError::NotRoot) }
}
