//! From mount(8) options to flags and data.

use rustix::mount::{MountFlags, MountPropagationFlags};

/// The options of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// Flags of the mount itself.
    pub(super) flags: MountFlags,
    /// Whether it is a bind mount, and whether of all below it.
    pub(super) bind: Option<Bind>,
    /// Which mount events pass.
    pub(super) propagation: Vec<MountPropagationFlags>,
    /// What the file system itself understands.
    pub(super) data: Vec<String>,
}

/// How far a bind mount goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// That mount alone.
    One,
    /// All mounts below it too.
    Recursive,
}

impl MountOptions {
    /// Reads the options of a mount of type `kind`.
    pub(super) fn parse(kind: &str, options: &[String]) -> Self {
        let bind = (kind == "bind").then_some(Bind::One);
        let mut parsed = Self { flags: MountFlags::empty(), bind, propagation: Vec::new(), data: Vec::new() };
        for option in options {
            match option.as_str() {
                "bind" => parsed.bind = parsed.bind.or(Some(Bind::One)),
                "rbind" => parsed.bind = Some(Bind::Recursive),
                "defaults" | "rw" | "suid" | "dev" | "exec" | "atime" | "diratime" | "norelatime" | "async" => {}
                other => match (flag(other), propagation(other)) {
                    (Some(flag), _) => parsed.flags |= flag,
                    (_, Some(propagation)) => parsed.propagation.push(propagation),
                    _ => parsed.data.push(other.to_owned()),
                },
            }
        }
        parsed
    }
}

fn flag(option: &str) -> Option<MountFlags> {
    Some(match option {
        "ro" | "rro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "strictatime" => MountFlags::STRICTATIME,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (recursive, kind) = match option.strip_prefix('r') {
        Some(kind) => (MountPropagationFlags::REC, kind),
        None => (MountPropagationFlags::empty(), option),
    };
    let kind = match kind {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: &str, words: &str) -> MountOptions {
        MountOptions::parse(kind, &words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_volume_of_kubernetes_is_a_read_only_bind_of_all_below() {
        let volume = options("bind", "rbind,rprivate,ro");
        assert_eq!(volume.bind, Some(Bind::Recursive));
        assert_eq!(volume.flags, MountFlags::RDONLY);
        assert_eq!(volume.propagation, [MountPropagationFlags::PRIVATE | MountPropagationFlags::REC]);
    }

    #[test]
    fn what_is_no_flag_goes_to_the_file_system() {
        let tmpfs = options("tmpfs", "nosuid,strictatime,mode=755,size=65536k");
        assert_eq!(tmpfs.data, ["mode=755", "size=65536k"]);
        assert_eq!((tmpfs.bind, tmpfs.flags), (None, MountFlags::NOSUID | MountFlags::STRICTATIME));
    }
}
