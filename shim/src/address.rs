//! Where a pod's shim listens.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The folder of all shims' sockets (containerd's `defaults.DefaultStateDir` + `/s`).
pub(crate) const SOCKET_DIR: &str = "/run/containerd/s";

/// The socket of the shim of a group (a pod) in a namespace of the containerd at `containerd`, as containerd's own shims name
/// it; the `wasmtime` keeps it apart from a runc shim of the same id.
pub(crate) fn socket_path(containerd: &str, namespace: &str, group: &str) -> String {
    format!("{SOCKET_DIR}/{}", sha256_hex(format!("{containerd}/{namespace}/wasmtime/{group}").as_bytes()))
}

/// What `start` prints for a socket.
pub(crate) fn address(socket: &str) -> String {
    format!("unix://{socket}")
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sockaddr_un.sun_path` holds 108 bytes, one of them for the end.
    #[test]
    fn every_path_fits_a_socket_address() {
        assert!(socket_path(&"/long".repeat(99), "k8s.io", &"f".repeat(64)).len() < 108);
    }

    #[test]
    fn pods_namespaces_and_daemons_are_kept_apart() {
        let base = socket_path("/run/a", "k8s.io", "p");
        assert_ne!(base, socket_path("/run/b", "k8s.io", "p"));
        assert_ne!(base, socket_path("/run/a", "moby", "p"));
        assert_ne!(base, socket_path("/run/a", "k8s.io", "q"));
    }
}
