//! The root file system of the nodes, what other releases have to lay over it, and a registry.

use std::path::{Path, PathBuf};

use super::PieceError;
use super::cache::{self, Workshop};
use crate::containerd::ContainerdVersion;
use crate::files::{self, FileError};
use crate::session::Session;
use crate::tool::{self, ToolError};

/// The environment variable that names another Debian mirror.
pub(crate) const MIRROR_VARIABLE: &str = "KWASM_DEBIAN_MIRROR";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian 12: its systemd is the last that boots on cgroup v1.
pub(crate) const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,containerd,runc,iproute2,iptables,containernetworking-plugins,procps,ca-certificates";

/// The root file system that all nodes share.
pub(crate) fn base(session: &Session) -> Result<PathBuf, PieceError> {
    let folder = cache::piece("node-base", &[SUITE, PACKAGES], session, |workshop| {
        // Namespaces of its own, so that nothing stays mounted when it is interrupted.
        let mut debootstrap =
            tool::bound_command("unshare", ["--mount", "--pid", "--fork", "--kill-child", "debootstrap"]);
        debootstrap.arg("--variant=minbase").arg(format!("--include={PACKAGES}")).arg(SUITE);
        debootstrap.arg(workshop.folder.join("tree")).arg(mirror());
        tool::run_long(&mut debootstrap, "debootstrap", workshop.log, session)
            .map_err(failed("the nodes' base system"))?;
        tidy(&workshop.folder.join("tree"))
    })?;
    Ok(folder.join("tree"))
}

fn mirror() -> String {
    std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.to_owned())
}

fn failed(piece: &str) -> impl FnOnce(ToolError) -> PieceError {
    move |source| PieceError::Tool { piece: piece.to_owned(), source }
}

/// Takes out what nodes must not share (an identity) or do not need (the package cache).
fn tidy(tree: &Path) -> Result<(), PieceError> {
    files::write(&tree.join("etc/machine-id"), "")?;
    for archive in files::list(&tree.join("var/cache/apt/archives"))? {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            std::fs::remove_file(&archive).map_err(FileError::new("remove", &archive))?;
        }
    }
    Ok(())
}

/// Packages of one version in one release, unpacked into a folder of their own.
struct Packages {
    suite: &'static str,
    /// Without the patch level.
    version: &'static str,
    package: &'static str,
    /// More packages of the same source.
    also: &'static [&'static str],
}

/// Docker of Debian 13: the base's own, 20.10, knows no shims but runc's.
const DOCKER: Packages = Packages { suite: "trixie", version: "26.1", package: "docker.io", also: &["docker-cli"] };

/// The distribution project's registry.
const REGISTRY: Packages = Packages { suite: SUITE, version: "2.8", package: "docker-registry", also: &[] };

/// The layer that replaces the base's containerd by this version; none for the base's own.
pub(super) fn containerd_layer(
    version: ContainerdVersion,
    base: &Path,
    session: &Session,
) -> Result<Option<PathBuf>, PieceError> {
    let Some(suite) = version.foreign_suite() else { return Ok(None) };
    let containerd = Packages { suite, version: version.as_str(), package: "containerd", also: &[] };
    containerd.layer(base, session).map(Some)
}

/// The layer that adds Docker to the base, for its containerd.
pub(crate) fn docker_layer(base: &Path, session: &Session) -> Result<PathBuf, PieceError> {
    DOCKER.layer(base, session)
}

/// The registry, unpacked.
pub(super) fn registry(session: &Session) -> Result<PathBuf, PieceError> {
    REGISTRY.layer(&base(session)?, session)
}

impl Packages {
    fn layer(&self, base: &Path, session: &Session) -> Result<PathBuf, PieceError> {
        let inputs = [&[self.suite, self.version], self.also].concat();
        let folder = cache::piece(&format!("{}-{}", self.package, self.version), &inputs, session, |workshop| {
            self.download(base, workshop, session)?
                .iter()
                .try_for_each(|package| unpack(package, &workshop.folder.join("tree")))?;
            Ok(files::remove_folder(&workshop.folder.join("apt"))?)
        })?;
        Ok(folder.join("tree"))
    }

    /// Downloads the packages with an apt that knows their suite alone.
    fn download(&self, base: &Path, workshop: &Workshop<'_>, session: &Session) -> Result<Vec<PathBuf>, PieceError> {
        let Self { suite, version, package, also } = *self;
        let what = format!("{package} {version}");
        let options = apt(suite, base, &what, workshop, session)?;
        let folder = workshop.folder.join("apt/download");
        let mut policy = tool::command("apt-cache", &options);
        let said = tool::run(policy.args(["policy", package])).map_err(failed("the list of packages"))?;
        let found = candidate(&said).to_owned();
        if !found.starts_with(&format!("{version}.")) {
            return Err(PieceError::OtherVersion { suite, package, found, wanted: version });
        }
        session.say(format!("{what}: {found} from Debian {suite}"));
        let mut download = tool::bound_command("apt-get", &options);
        download.arg("download").current_dir(&folder);
        download.args([package].iter().chain(also).map(|package| format!("{package}={found}")));
        tool::run_long(&mut download, &what, workshop.log, session).map_err(failed(&what))?;
        files::write(&workshop.folder.join("version"), &found)?;
        Ok(files::list(&folder)?)
    }
}

/// The options of an apt of the workshop's own, in its folder `apt`, that knows this suite alone and has
/// fetched its lists; `base` is the tree it believes to be installed.
pub(crate) fn apt(
    suite: &str,
    base: &Path,
    what: &str,
    workshop: &Workshop<'_>,
    session: &Session,
) -> Result<Vec<String>, PieceError> {
    let apt = workshop.folder.join("apt");
    for folder in ["state/lists/partial", "cache/archives/partial", "sources.d", "download"] {
        files::make_folder(&apt.join(folder))?;
    }
    files::write(&apt.join("sources.list"), format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()))?;
    let options = options(&apt, base);
    let mut update = tool::bound_command("apt-get", &options);
    tool::run_long(update.arg("update"), what, workshop.log, session).map_err(failed(what))?;
    Ok(options)
}

/// Options that keep apt away from the machine's own package lists and sources.
fn options(apt: &Path, base: &Path) -> Vec<String> {
    let at = |path: &str| apt.join(path).display().to_string();
    [
        format!("Dir::State={}", at("state")),
        format!("Dir::Cache={}", at("cache")),
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        format!("Dir::Etc::sourceparts={}", at("sources.d")),
        format!("Dir::State::status={}", base.join("var/lib/dpkg/status").display()),
        // apt's own user may not reach a cache in root's home.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=3".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect()
}

/// The version apt would install, from what `apt-cache policy` says.
fn candidate(policy: &str) -> &str {
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
    line.map_or("nothing", str::trim)
}

/// Unpacks a package as a layer over the base: without its configuration, and with `lib` in
/// `usr`, where a link of the base leads (a folder `lib` would hide that link).
fn unpack(package: &Path, tree: &Path) -> Result<(), PieceError> {
    let mut dpkg = tool::command("dpkg", ["-x"]);
    tool::run(dpkg.arg(package).arg(tree)).map_err(failed("a layer"))?;
    let (old, new) = (tree.join("lib"), tree.join("usr/lib"));
    if old.is_dir() {
        files::make_folder(&new)?;
        let mut copy = tool::command("cp", ["-a", "--"]);
        tool::run(copy.arg(old.join(".")).arg(&new)).map_err(failed("a layer"))?;
        files::remove_folder(&old)?;
    }
    Ok(files::remove_folder(&tree.join("etc"))?)
}

#[cfg(test)]
mod tests {
    use super::candidate;

    #[test]
    fn the_candidate_is_read_from_what_apt_says() {
        let said =
            "containerd:\n  Installed: (none)\n  Candidate: 2.1.9+ds1-5\n  Version table:\n     2.1.9+ds1-5 500\n";
        assert_eq!(candidate(said), "2.1.9+ds1-5");
    }

    #[test]
    fn a_suite_without_the_package_has_nothing() {
        assert_eq!(candidate(""), "nothing");
    }
}
