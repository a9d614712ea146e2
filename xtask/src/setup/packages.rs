//! Debian's packages that building and testing need, each with its reason.

/// A package of Debian 12.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
}

/// Every package.
pub const PACKAGES: &[Package] = &[
    Package { name: "systemd-container", reason: "systemd-nspawn: the cluster's nodes" },
    Package { name: "debootstrap", reason: "the nodes' root file system" },
    Package {
        name: "debian-archive-keyring",
        reason: "the keys of Debian's newer releases, whose containerd nodes run",
    },
    Package { name: "iproute2", reason: "the network between the nodes" },
    Package { name: "buildah", reason: "container images from Containerfiles" },
    Package { name: "zstd", reason: "the layers of container images" },
    Package { name: "clang", reason: "guests in C" },
    Package { name: "lld", reason: "clang's linker for WebAssembly" },
    Package { name: "wasi-libc", reason: "the C library of WebAssembly guests" },
    Package { name: "libclang-rt-14-dev-wasm32", reason: "clang's runtime for WebAssembly" },
    Package { name: "qemu-system-x86", reason: "the virtual machine with cgroup v2 and a power switch" },
    Package { name: "e2fsprogs", reason: "the virtual machine's disk" },
    Package { name: "gcc", reason: "the cluster's pause program, and the linker of everything" },
    Package { name: "libc6-dev", reason: "static programs for images without a C library" },
];
