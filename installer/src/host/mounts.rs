//! Which file systems a node has mounted, and whether a folder on one keeps programs and files.

use std::path::{Path, PathBuf};

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
    /// Its type, such as `ext4`.
    pub kind: String,
    /// Its options, such as `ro` and `noexec`.
    pub options: Vec<String>,
}

/// All of them, in the order in which they were mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

/// Why a folder is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing can be written.
    #[error("is read-only")]
    ReadOnly,
    /// Nothing can be run.
    #[error("is mounted noexec")]
    NoExec,
    /// It is kept in memory.
    #[error("forgets everything at the next start")]
    Forgets,
}

impl Mounts {
    /// Reads `/proc/self/mounts`.
    #[must_use]
    pub fn parse(table: &str) -> Self {
        let mounts = table.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = PathBuf::from(unescape(words.next()?));
            let kind = words.next()?.to_owned();
            let options = words.next()?.split(',').map(str::to_owned).collect();
            Some(Mount { path, kind, options })
        });
        Self(mounts.collect())
    }

    /// Why files below `folder`, a path without links, do not stay; `None` if they do.
    #[must_use]
    pub fn unfit_for_files(&self, folder: &Path) -> Option<Unfit> {
        let mount = self.holding(folder)?;
        if mount.has("ro") {
            return Some(Unfit::ReadOnly);
        }
        // A node that runs from memory as a whole forgets its container runtime's configuration as well.
        let whole = self.holding(Path::new("/")).is_some_and(Mount::is_memory);
        (self.forgets(mount) && !whole).then_some(Unfit::Forgets)
    }

    /// Why programs below `folder`, a path without links, cannot be kept and run; `None` if they can.
    #[must_use]
    pub fn unfit_for_programs(&self, folder: &Path) -> Option<Unfit> {
        let no_exec = || self.holding(folder).filter(|mount| mount.has("noexec")).map(|_| Unfit::NoExec);
        self.unfit_for_files(folder).or_else(no_exec)
    }

    /// Whether something is mounted at just this path, one without links: nothing can be renamed to there.
    #[must_use]
    pub fn has_at(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.path == path)
    }

    /// The file system that a path is on: of several mounted at one place, the last.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.path));
        above.max_by_key(|mount| mount.path.components().count())
    }

    fn forgets(&self, mount: &Mount) -> bool {
        let upper = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        let upper = upper.filter(|_| mount.path != Path::new("/")).map(Path::new);
        mount.is_memory() || upper.and_then(|upper| self.holding(upper)).is_some_and(Mount::is_memory)
    }
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|has| has == option)
    }

    fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }
}

/// Blanks in paths are written as octal numbers.
fn unescape(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |word, (escaped, plain)| word.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const COS: &str = "\
/dev/root / ext2 ro,relatime 0 0
tmpfs /tmp tmpfs rw,nosuid,nodev 0 0
overlay /etc overlay rw,lowerdir=/etc,upperdir=/tmp/etc_overlay/etc,workdir=/tmp/etc_overlay/work 0 0
/dev/sda1 /var ext4 rw,nosuid,nodev,noexec 0 0
/dev/sda1 /var/lib/kubelet ext4 rw,nosuid,nodev 0 0
/dev/sda1 /mnt/with\\040blank ext4 ro 0 0
";

    #[rstest]
    #[case("/opt/kwasm", Some(Unfit::ReadOnly))]
    #[case("/etc/containerd", Some(Unfit::Forgets))]
    #[case("/var/lib/kwasm", Some(Unfit::NoExec))]
    #[case("/var/lib/kubelet/kwasm", None)]
    #[case("/mnt/with blank", Some(Unfit::ReadOnly))]
    fn the_nearest_mount_decides(#[case] folder: &str, #[case] unfit: Option<Unfit>) {
        assert_eq!(Mounts::parse(COS).unfit_for_programs(Path::new(folder)), unfit);
    }

    #[test]
    fn configuration_files_may_be_where_programs_cannot_run() {
        assert_eq!(Mounts::parse(COS).unfit_for_files(Path::new("/var/lib/kwasm")), None);
    }

    #[rstest]
    #[case::runs_from_memory("tmpfs / tmpfs rw 0 0\n")]
    #[case::a_containers_root("overlay / overlay rw,upperdir=/var/lib/docker/x/diff 0 0\ntmpfs /run tmpfs rw 0 0\n")]
    fn a_node_whose_root_is_no_disk_is_taken_as_it_is(#[case] table: &str) {
        assert_eq!(Mounts::parse(table).unfit_for_programs(Path::new("/opt")), None);
    }
}
