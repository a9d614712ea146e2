//! What `node.json` of a tree says about the system around its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kwasm_api::Runtime;
use kwasm_api::runtime::RuntimeKind;
use kwasm_installer::host::system::{Running, Unit};
use serde::Deserialize;

use crate::fake::{bundled, on_host};

/// A node's system. What a tree leaves out is a node of kubeadm: containerd under systemd, and a kubelet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    /// Version of the daemon that serves CRI.
    #[serde(alias = "containerd", alias = "crio")]
    pub(crate) version: String,
    /// Where the files come from.
    #[serde(default)]
    #[allow(dead_code, reason = "for people")]
    pub(crate) shape: String,
    /// Symbolic links of the tree, by their paths: what copies a repository may lose a link, or follow it.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, PathBuf>,
    /// Versions of other programs, by their names.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, String>,
    /// Loaded services.
    #[serde(default = "units")]
    pub(crate) units: Vec<Unit>,
    /// Processes of the node itself.
    #[serde(default = "running")]
    pub(crate) running: Vec<Running>,
    /// As `/proc/self/mounts` has it.
    #[serde(default = "mounts")]
    pub(crate) mounts: Vec<String>,
    /// The file that the daemon loads.
    #[serde(default = "loaded")]
    pub(crate) loaded: String,
    /// How that file is made when the daemon is started.
    #[serde(default)]
    pub(crate) rendered: Rendered,
    /// The program that renders templates, instead of the played renderer.
    #[serde(skip)]
    pub(crate) renderer: Option<PathBuf>,
    /// What is installed there.
    #[serde(default)]
    pub(crate) installs: Installs,
    /// Why nothing is: the reason's name.
    #[serde(default)]
    pub(crate) refused: Option<String>,
    /// How often the daemon is restarted by installing and uninstalling.
    #[serde(default = "two")]
    pub(crate) restarts: u32,
}

/// What a tree is asked to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Installs {
    /// The bundled shim.
    #[default]
    BundledShim,
    /// A binary of the node with runc's command line, `/usr/bin/crun-wasm`.
    HostOci,
}

/// How a distribution makes the file that its daemon loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rendered {
    /// It does not.
    #[default]
    Never,
    /// k3s and RKE2: from a Go template, or from the built-in one.
    FromTemplate,
    /// k0s: its own configuration of CRI, merged with the drop-ins.
    Merged,
    /// MicroK8s: variables are replaced.
    Substituted,
}

impl Facts {
    /// The facts of a tree.
    pub(crate) fn of(tree: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nodes").join(tree).join("node.json");
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap_or_else(|error| panic!("{tree}: {error}"))
    }

    /// A node of kubeadm.
    pub(crate) fn plain(version: &str) -> Self {
        serde_json::from_value(serde_json::json!({"containerd": version})).unwrap()
    }

    /// The runtimes that the tree is asked to take.
    pub(crate) fn runtimes(&self) -> Vec<Runtime> {
        match self.installs {
            Installs::BundledShim => vec![bundled("wasmtime")],
            Installs::HostOci => {
                let runtime = on_host("wasmtime", "/usr/bin/crun-wasm");
                vec![Runtime { kind: RuntimeKind::Oci, ..runtime }.revise()]
            }
        }
    }

    /// The same runtimes, and one beside them.
    pub(crate) fn more_runtimes(&self) -> Vec<Runtime> {
        match self.installs {
            Installs::BundledShim => vec![bundled("spin"), bundled("wasmtime")],
            Installs::HostOci => {
                let spin = Runtime { kind: RuntimeKind::Oci, ..on_host("spin", "/usr/bin/crun-wasm") }.revise();
                [vec![spin], self.runtimes()].concat()
            }
        }
    }

    /// Whether any daemon serves CRI there.
    pub(crate) fn serves_cri(&self) -> bool {
        self.restarts > 0
    }

    /// Whether CRI-O serves CRI.
    pub(crate) fn is_crio(&self) -> bool {
        self.loaded.starts_with("/etc/crio")
    }
}

fn units() -> Vec<Unit> {
    vec![Unit { name: "containerd.service".into(), enabled: true, main_pid: Some(500) }]
}

fn running() -> Vec<Running> {
    let process =
        |pid, program: &str| Running { pid, parent: 1, program: program.into(), arguments: vec![program.to_owned()] };
    vec![process(1, "/usr/lib/systemd/systemd"), process(500, "/usr/bin/containerd"), process(600, "/usr/bin/kubelet")]
}

fn mounts() -> Vec<String> {
    vec!["/dev/vda1 / ext4 rw 0 0".into(), "tmpfs /run tmpfs rw 0 0".into()]
}

fn loaded() -> String {
    "/etc/containerd/config.toml".into()
}

const fn two() -> u32 {
    2
}
