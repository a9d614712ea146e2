//! What every virtual machine starts from: a kernel, and a disk with the nodes' base system and the agent.

use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::pieces::{self, PieceError, Workshop};
use crate::session::Session;
use crate::tool;

const NAME: &str = "virtual-machine";
/// How the layout below is named in the cache's key: to be changed with the code of this file.
const LAYOUT: &str = "1";
/// Debian's kernel for virtual machines: its drivers of NVMe disks and ext4 are built in, so that it
/// boots without an initial RAM disk.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What loads the kernel's other drivers.
const MODULE_TOOLS: &str = "kmod";
/// The packages that are unpacked; what they depend on serves initial RAM disks.
const UNPACKED: [&str; 2] = ["linux-image-", "kmod_"];
/// As `truncate` takes it. The file is sparse: what the guest never wrote takes no room.
const SIZE: &str = "4G";
/// The agent's port, and what containerd would load anyway.
const MODULES: &str = "virtio_pci\nvirtio_console\noverlay\n";
const AGENT: &str = include_str!("agent.sh");
const SERVICE: &str = include_str!("agent.service");
/// Units that nothing here needs: an emulated machine takes seconds for them.
const MASKED: [&str; 20] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-logind.service",
    "systemd-sysusers.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// The cached piece.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// The disk, an ext4 file system without partitions.
    pub(super) disk: PathBuf,
}

/// The image, made if it is not in the cache.
pub(super) fn image(session: &Session) -> Result<Image, PieceError> {
    cached(NAME, &pieces::base(session)?, None, session)
}

/// The image with Docker, made if it is not in the cache.
pub(super) fn image_with_docker(session: &Session) -> Result<Image, PieceError> {
    let base = pieces::base(session)?;
    let docker = pieces::docker_layer(&base, session)?;
    cached(&format!("{NAME}-docker"), &base, Some(&docker), session)
}

fn cached(name: &str, base: &Path, docker: Option<&Path>, session: &Session) -> Result<Image, PieceError> {
    let masked = MASKED.join(" ");
    // The base's path ends in the digest of what it was made from, and so does a layer's.
    let (from, added) = (base.to_string_lossy(), docker.map(Path::to_string_lossy));
    let mut inputs = vec![LAYOUT, &*from, KERNEL, MODULE_TOOLS, SIZE, MODULES, AGENT, SERVICE, &*masked];
    inputs.extend(added.as_deref());
    let folder = pieces::piece(name, &inputs, session, |workshop| make(base, docker, workshop, session))?;
    Ok(Image { kernel: folder.join("vmlinuz"), disk: folder.join("disk") })
}

fn make(base: &Path, docker: Option<&Path>, workshop: &Workshop<'_>, session: &Session) -> Result<(), PieceError> {
    let tree = workshop.folder.join("tree");
    run(tool::command("cp", ["-a", "--"]).arg(base).arg(&tree))?;
    if let Some(docker) = docker {
        add_docker(docker, &tree)?;
    }
    for package in download(&tree, workshop, session)? {
        unpack(&package, &tree, workshop)?;
    }
    configure(&tree)?;
    take_kernel(&tree, &workshop.folder.join("vmlinuz"))?;
    let disk = workshop.folder.join("disk");
    run(tool::command("truncate", ["--size", SIZE]).arg(&disk))?;
    run(tool::command("mkfs.ext4", ["-q", "-F", "-d"]).arg(&tree).arg(&disk))?;
    files::remove_folder(&workshop.folder.join("apt"))?;
    files::remove_folder(&tree).map_err(PieceError::from)
}

fn run(command: &mut std::process::Command) -> Result<String, PieceError> {
    tool::run(command).map_err(|source| PieceError::Tool { piece: NAME.to_owned(), source })
}

/// Docker's socket belongs to a group that its package makes.
fn add_docker(layer: &Path, tree: &Path) -> Result<(), PieceError> {
    run(tool::command("cp", ["-a", "--"]).arg(layer.join(".")).arg(tree))?;
    run(tool::command("chroot", [tree]).args(["groupadd", "--system", "docker"])).map(drop)
}

/// Downloads the kernel and its tools, and returns the packages to unpack.
fn download(tree: &Path, workshop: &Workshop<'_>, session: &Session) -> Result<Vec<PathBuf>, PieceError> {
    let options = pieces::apt(pieces::SUITE, tree, NAME, workshop, session)?;
    let mut apt = tool::bound_command("apt-get", &options);
    apt.args(["install", "--yes", "--download-only", "--no-install-recommends", KERNEL, MODULE_TOOLS]);
    tool::run_long(&mut apt, NAME, workshop.log, session)
        .map_err(|source| PieceError::Tool { piece: NAME.to_owned(), source })?;
    let packages = files::list(&workshop.folder.join("apt/cache/archives"))?;
    let wanted = |path: &PathBuf| {
        path.file_name().is_some_and(|name| UNPACKED.iter().any(|start| name.to_string_lossy().starts_with(start)))
    };
    Ok(packages.into_iter().filter(wanted).collect())
}

/// Unpacks a package through the base's links: `dpkg --extract` would replace `/lib` by a folder.
fn unpack(package: &Path, tree: &Path, workshop: &Workshop<'_>) -> Result<(), PieceError> {
    let archive = workshop.folder.join("apt/archive.tar");
    let file = std::fs::File::create(&archive).map_err(FileError::new("make", &archive))?;
    run(tool::command("dpkg-deb", ["--fsys-tarfile"]).arg(package).stdout(file))?;
    run(tool::command("tar", ["-x", "--keep-directory-symlink", "-f"]).arg(&archive).arg("-C").arg(tree)).map(drop)
}

fn configure(tree: &Path) -> Result<(), PieceError> {
    files::write(&tree.join("etc/hostname"), "vm\n")?;
    files::write(&tree.join("etc/modules-load.d/vm.conf"), MODULES)?;
    files::write_program(&tree.join("usr/local/sbin/agent"), AGENT)?;
    let units = tree.join("etc/systemd/system");
    files::write(&units.join("agent.service"), SERVICE)?;
    files::link(&units.join("basic.target.wants/agent.service"), "../agent.service")?;
    for unit in MASKED {
        files::link(&units.join(unit), "/dev/null")?;
    }
    Ok(())
}

/// Lists the modules for the kernel's tools, and moves the kernel out of the tree.
fn take_kernel(tree: &Path, to: &Path) -> Result<(), PieceError> {
    const PREFIX: &str = "vmlinuz-";
    let boot = tree.join("boot");
    let found = files::list(&boot)?.into_iter().find_map(|path| {
        let version = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.to_owned();
        Some((path, version))
    });
    let missing = || FileError::new("find a kernel in", &boot)(std::io::ErrorKind::NotFound.into());
    let (kernel, version) = found.ok_or_else(missing)?;
    run(tool::command("chroot", [tree]).args(["depmod", &version]))?;
    std::fs::rename(&kernel, to).map_err(FileError::new("move", &kernel))?;
    Ok(())
}
