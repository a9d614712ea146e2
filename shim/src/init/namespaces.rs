//! The namespaces of a container, except for the PID namespace, into which the process was born.

use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

use super::{InitError, step, write_kernel_file};
use crate::spec::{NamespaceKind, Spec};

/// Joins and creates the namespaces that the specification lists, and sets what belongs to them.
///
/// # Errors
/// The namespace or setting that was refused.
pub(super) fn enter(spec: &Spec) -> Result<(), InitError> {
    // The container's root is always a mount namespace's: it vanishes with its last process.
    let mut new = CloneFlags::CLONE_NEWNS;
    let mut joined = Vec::new();
    for namespace in &spec.linux.namespaces {
        let Some(flag) = flag(&namespace.kind)? else { continue };
        if namespace.path.as_os_str().is_empty() {
            new |= flag;
        } else {
            let path = namespace.path.display();
            let file = File::open(&namespace.path).map_err(step(format!("opening the namespace {path}")))?;
            joined.push((flag, file, path));
        }
    }
    for (flag, file, path) in joined {
        setns(file, flag).map_err(step(format!("joining the namespace {path}")))?;
    }
    unshare(new).map_err(step("creating namespaces"))?;
    if new.contains(CloneFlags::CLONE_NEWUTS) && !spec.hostname.is_empty() {
        sethostname(&spec.hostname).map_err(step("setting the host name"))?;
    }
    for (key, value) in &spec.linux.sysctl {
        let path = format!("/proc/sys/{}", sysctl_path(key)?);
        write_kernel_file(&path, value).map_err(step(format!("setting the kernel parameter {key}={value}")))?;
    }
    Ok(())
}

/// `None` for a namespace that is entered elsewhere or that makes no difference to a guest.
fn flag(kind: &NamespaceKind) -> Result<Option<CloneFlags>, InitError> {
    match kind {
        NamespaceKind::Network => Ok(Some(CloneFlags::CLONE_NEWNET)),
        NamespaceKind::Ipc => Ok(Some(CloneFlags::CLONE_NEWIPC)),
        NamespaceKind::Uts => Ok(Some(CloneFlags::CLONE_NEWUTS)),
        NamespaceKind::Cgroup => Ok(Some(CloneFlags::CLONE_NEWCGROUP)),
        NamespaceKind::Mount => Ok(Some(CloneFlags::CLONE_NEWNS)),
        NamespaceKind::Pid | NamespaceKind::Time => Ok(None),
        NamespaceKind::User => Err(InitError::Unsupported(
            "user namespaces (hostUsers: false) are not supported by this runtime class yet".to_owned(),
        )),
        NamespaceKind::Other(name) => {
            Err(InitError::Unsupported(format!("unknown namespace {name:?} in the container's specification")))
        }
    }
}

/// `net.ipv4.ip_forward` is the file `net/ipv4/ip_forward`; with slashes, dots belong to names (sysctl(8)).
fn sysctl_path(key: &str) -> Result<String, InitError> {
    let first = key.find(['.', '/']);
    let path = match first.map(|at| &key[at..=at]) {
        Some(".") => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    };
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(InitError::Unsupported(format!("{key:?} is no kernel parameter")));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_parameter_is_a_file() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.forwarding").unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/forwarding").unwrap(), "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn a_kernel_parameter_stays_below_proc_sys() {
        assert!(sysctl_path("/../../etc/passwd").is_err());
        assert!(sysctl_path("net/../../x").is_err());
    }

    #[test]
    fn user_namespaces_are_refused_in_words() {
        assert!(flag(&NamespaceKind::User).unwrap_err().to_string().contains("hostUsers"));
        assert_eq!(flag(&NamespaceKind::Pid).unwrap(), None);
    }
}
