//! Which images there are and what is in each.

use std::path::PathBuf;

use super::layer::Entry;
use crate::paths;

/// One image. Its Containerfile is beside its program.
#[derive(Debug)]
pub struct Image {
    /// What `cargo xtask images` calls it, and the last part of its repository.
    pub name: &'static str,
    origin: Origin,
    /// What the Containerfile finds in its context.
    pub(super) contents: &'static [Content],
}

/// Where an image's sources are, which decides what it is called.
#[derive(Debug)]
enum Origin {
    /// One of the project's programs, in this folder. Released with the workspace's version.
    Product(&'static str),
    /// A guest, in the folder of its name. Never released: a pod names it without registry and tag.
    Guest,
}

/// A file of a build context.
#[derive(Debug)]
pub enum Content {
    /// A program of this workspace, built for release. One build per program: features that cargo unifies in
    /// one build (a compiler in the engine!) must not meet.
    Program {
        /// The package it is in.
        package: &'static str,
        /// Its name.
        binary: &'static str,
        /// Its path in the context.
        to: &'static str,
    },
    /// The Go package in the image's folder, as a WASI preview 1 module.
    Go {
        /// Its path in the context.
        to: &'static str,
    },
    /// A C source, as a WASI preview 1 module.
    C {
        /// Below the guests' folder.
        source: &'static str,
        /// Its path in the context.
        to: &'static str,
    },
    /// A C source, as a WASI preview 2 command component.
    Component {
        /// Below the guests' folder.
        source: &'static str,
        /// Its path in the context.
        to: &'static str,
    },
    /// A C source, as a static Linux program.
    Linux {
        /// Below the guests' folder.
        source: &'static str,
        /// Its path in the context.
        to: &'static str,
    },
    /// A file of the image's folder as it is.
    File(&'static str),
    /// An archive for the Containerfile to unpack.
    Layer {
        /// Its path in the context.
        to: &'static str,
        /// What is in it.
        entries: &'static [Entry],
    },
}

/// Where the guests' sources are, below the project's top.
pub(super) const GUESTS: &str = "tests/guests";

/// Every image.
pub const CATALOGUE: &[Image] = &[
    Image {
        name: "kwasm-operator",
        origin: Origin::Product("operator"),
        contents: &[Content::Program { package: "kwasm-operator", binary: "kwasm-operator", to: "kwasm-operator" }],
    },
    Image {
        name: "kwasm-installer",
        origin: Origin::Product("installer"),
        contents: &[
            Content::Program { package: "kwasm-installer", binary: "kwasm-installer", to: "kwasm-installer" },
            Content::Program {
                package: "containerd-shim-wasmtime",
                binary: "containerd-shim-wasmtime-v1",
                to: "bundled/wasmtime/containerd-shim-wasmtime-v1",
            },
            Content::Program {
                package: "wasmtime-engine",
                binary: "wasmtime-engine",
                to: "bundled/wasmtime/wasmtime-engine",
            },
            Content::Program {
                package: "wasmtime-compiler",
                binary: "wasmtime-compiler",
                to: "bundled/wasmtime/wasmtime-compiler",
            },
        ],
    },
    guest("wasi-demo-app", &[Content::Go { to: "wasi-demo-app.wasm" }]),
    guest("greet", &[Content::C { source: "greet/greet.c", to: "greet.wasm" }]),
    guest("greet-component", &[Content::Component { source: "greet/greet.c", to: "greet-component.wasm" }]),
    guest("trap", &[Content::C { source: "trap/trap.c", to: "trap.wasm" }]),
    guest("not-wasm", &[Content::File("not-wasm.txt")]),
    guest("no-file", &[Content::File("README.txt")]),
    guest(
        "hostile",
        &[
            Content::C { source: "hostile/open.c", to: "open.wasm" },
            Content::Layer { to: "hostile.tar", entries: HOSTILE },
        ],
    ),
    guest("linux-hello", &[Content::Linux { source: "linux-hello/hello.c", to: "linux-hello" }]),
];

/// Where an image may try to lead what prepares its container: to descriptors that are open then, and out of its root.
const HOSTILE: &[Entry] = &[
    Entry::Device { path: "null", major: 1, minor: 3 },
    Entry::Link { path: "fd4", target: "/proc/self/fd/4" },
    Entry::Link { path: "fd5", target: "/proc/self/fd/5" },
    Entry::Link { path: "fd6", target: "/proc/self/fd/6" },
    Entry::Link { path: "absolute", target: "/var/lib/kwasm/escaped" },
    Entry::Link { path: "upwards", target: "../../../../../../../../var/lib/kwasm/escaped" },
];

const fn guest(name: &'static str, contents: &'static [Content]) -> Image {
    Image { name, origin: Origin::Guest, contents }
}

impl Image {
    /// The full reference, with registry and tag.
    #[must_use]
    pub fn reference(&self) -> String {
        match self.origin {
            Origin::Product(_) => format!("ghcr.io/kwasm/{}:{}", self.name, env!("CARGO_PKG_VERSION")),
            Origin::Guest => format!("docker.io/library/{}:latest", self.name),
        }
    }

    /// Its Containerfile.
    #[must_use]
    pub fn containerfile(&self) -> PathBuf {
        self.folder().join("Containerfile")
    }

    pub(super) fn folder(&self) -> PathBuf {
        match self.origin {
            Origin::Product(folder) => paths::root().join(folder),
            Origin::Guest => paths::root().join(GUESTS).join(self.name),
        }
    }
}

impl Content {
    /// Its path in the context.
    pub(super) fn to(&self) -> &'static str {
        match self {
            Self::Program { to, .. }
            | Self::Go { to }
            | Self::C { to, .. }
            | Self::Component { to, .. }
            | Self::Linux { to, .. }
            | Self::Layer { to, .. }
            | Self::File(to) => to,
        }
    }
}
