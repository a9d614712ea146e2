//! The cluster with KWasm's images on every node, and the two commands of the README.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::api::node::v1::RuntimeClass;
use kwasm_api::names;
use kwasm_api::wasm_node::WasmNode;
use kwasm_test_cluster::{Cluster, ClusterName, ContainerdVersion, Node, Session};
use serde_json::json;

use crate::kube::Kube;
use crate::site::Site;

/// How long a node may take from its annotation to its label. Generous: three nodes share two cores.
pub const PROVISIONING: Duration = Duration::from_secs(180);

/// The path of containerd's configuration on a node.
const CONTAINERD_CONFIG: &str = "etc/containerd/config.toml";

/// A cluster with KWasm's images on every node.
pub struct Road {
    /// The cluster.
    pub cluster: Cluster,
    /// A client of its API server, as administrator.
    pub kube: Kube,
    session: Session,
    nodes: Vec<Node>,
    original_configs: BTreeMap<String, String>,
    installed: OnceLock<Result<(), String>>,
    provisioned: OnceLock<Result<Duration, String>>,
}

impl Road {
    /// Starts the cluster, with a node for each version, and imports the images. A cluster of the name that an earlier run left
    /// behind is taken away first.
    ///
    /// # Errors
    /// If one of these fails.
    pub fn up(name: &str, versions: &[ContainerdVersion]) -> Result<Self> {
        let session = Session::to_stderr();
        session.stop_on_signals()?;
        let name: ClusterName = name.parse()?;
        Cluster::down(&name, &session)?;
        let cluster = Cluster::up(&name, versions, &session)?;
        Self::on(cluster, session.clone()).inspect_err(|_| {
            if let Err(error) = Cluster::down(&name, &session) {
                eprintln!("the cluster did not end: {error}");
            }
        })
    }

    fn on(cluster: Cluster, session: Session) -> Result<Self> {
        let nodes = cluster.nodes()?;
        let mut original_configs = BTreeMap::new();
        for node in &nodes {
            original_configs.insert(node.name().to_owned(), read_config(node)?);
        }
        xtask::road::import(&cluster, &xtask::images::archives()?)?;
        let kube = Kube::connect(&cluster.kubeconfig(), session.clone())?;
        let (installed, provisioned) = (OnceLock::new(), OnceLock::new());
        Ok(Self { cluster, kube, session, nodes, original_configs, installed, provisioned })
    }

    /// The first command of the README, once: `helm install`.
    ///
    /// # Errors
    /// If helm fails.
    pub fn installed(&self) -> Result<()> {
        let install = || self.helm_install().map_err(|error| format!("{error:#}"));
        self.installed.get_or_init(install).clone().map_err(|error| anyhow!(error))
    }

    fn helm_install(&self) -> Result<()> {
        self.helm(&["install", "--create-namespace", "kwasm-operator", &chart(), "--wait", "--timeout", "2m"]).map(drop)
    }

    /// `helm upgrade` to the chart as it is.
    ///
    /// # Errors
    /// If helm fails.
    pub fn upgrade(&self) -> Result<()> {
        self.upgrade_with(&[])
    }

    /// `helm upgrade` to the chart with these values (`name=value`) and no others.
    ///
    /// # Errors
    /// If helm fails.
    pub fn upgrade_with(&self, values: &[&str]) -> Result<()> {
        let chart = chart();
        // Without this, helm takes over the values of the release before where none are given.
        let upgrade = ["upgrade", "kwasm-operator", &chart, "--reset-values", "--wait", "--timeout", "2m"];
        let values: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
        self.helm(&[&upgrade[..], &values].concat()).map(drop)
    }

    /// `helm uninstall`.
    ///
    /// # Errors
    /// If helm fails.
    pub fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", "kwasm-operator", "--wait", "--timeout", "5m"]).map(drop)
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cluster.helm(&[&["-n", "kwasm"], arguments].concat())?;
        succeeded(&output).with_context(|| format!("helm {}", arguments.join(" ")))
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error holds what it printed to standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cluster.kubectl(arguments)?;
        succeeded(&output).with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// The second command of the README, once: annotates every node and waits until each is verified.
    /// Returns the time from the annotation to the RuntimeClass.
    ///
    /// # Errors
    /// If a node is not verified in time.
    pub fn provisioned(&self) -> Result<Duration> {
        self.installed()?;
        let provision = || self.annotate_all_nodes().map_err(|error| format!("{error:#}"));
        self.provisioned.get_or_init(provision).clone().map_err(|error| anyhow!(error))
    }

    fn annotate_all_nodes(&self) -> Result<Duration> {
        let start = Instant::now();
        self.kubectl(&["annotate", "node", "--all", "kwasm.sh/kwasm-node=true"])?;
        let classes = self.kube.all::<RuntimeClass>();
        self.kube.until(&classes, "wasmtime", PROVISIONING, "to exist", |_| true)?;
        let published = start.elapsed();
        for site in self.sites() {
            site.until_verified()?;
        }
        Ok(published)
    }

    /// Fails once a signal asked to stop: tests that have not begun then do not begin.
    ///
    /// # Errors
    /// If one did.
    pub fn not_interrupted(&self) -> Result<()> {
        Ok(self.session.check()?)
    }

    /// Every node the cluster started with.
    #[must_use]
    pub fn sites(&self) -> Vec<Site<'_>> {
        self.nodes.iter().map(|node| self.site_of(node)).collect()
    }

    /// A node of the cluster.
    #[must_use]
    pub fn site_of<'a>(&'a self, node: &'a Node) -> Site<'a> {
        Site { road: self, node }
    }

    /// The node with a version of containerd.
    ///
    /// # Errors
    /// If there is none.
    pub fn site(&self, version: ContainerdVersion) -> Result<Site<'_>> {
        let found = self.nodes.iter().find(|node| node.containerd_version() == version);
        found.map(|node| self.site_of(node)).ok_or_else(|| anyhow!("no node with containerd {version}"))
    }

    /// A node's containerd configuration as it was before KWasm came.
    ///
    /// # Errors
    /// If the node was not there then.
    pub fn original_config(&self, node: &str) -> Result<&str> {
        self.original_configs.get(node).map(String::as_str).ok_or_else(|| anyhow!("{node} came later"))
    }

    /// Lets a node join whose Node object carries the annotation before its kubelet first speaks.
    ///
    /// # Errors
    /// If it does not join.
    pub fn join_annotated(&self, version: ContainerdVersion, name: &str) -> Result<Node> {
        let node = json!({"metadata": {"name": name, "annotations": {names::KWASM_NODE: names::OPTED_IN}}});
        self.kube.create(&self.kube.all::<KubeNode>(), &serde_json::from_value(node)?)?;
        let node = self.cluster.add_node(version)?;
        if node.name() != name {
            bail!("the new node is {}, not {name}", node.name());
        }
        // The installer starts as soon as its image is there, and restarts containerd: no import may be under way then.
        let installer = xtask::images::archive("kwasm-installer")?;
        let mut archives = xtask::images::archives()?;
        archives.retain(|archive| *archive != installer);
        archives.push(installer);
        xtask::road::import_on(&node, &archives)?;
        Ok(node)
    }

    /// Annotates a node so that KWasm provisions it.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn opt_in(&self, node: &str) -> Result<()> {
        self.annotate(node, &json!(names::OPTED_IN))
    }

    /// Takes the annotation away again.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn opt_out(&self, node: &str) -> Result<()> {
        self.annotate(node, &serde_json::Value::Null)
    }

    fn annotate(&self, node: &str, value: &serde_json::Value) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {names::KWASM_NODE: value}}});
        self.kube.patch(&self.kube.all::<KubeNode>(), node, &patch).map(drop)
    }

    /// Waits until a node's `WasmNode` is not ready for a reason, and returns the condition's message.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn failure_message(&self, node: &str, reason: &str) -> Result<String> {
        let nodes = self.kube.all::<WasmNode>();
        let expectation = format!("to be not ready for the reason {reason}");
        let failed = |node: &WasmNode| {
            ready_condition(node).is_some_and(|ready| ready.status == "False" && ready.reason == reason)
        };
        let node = self.kube.until(&nodes, node, PROVISIONING, &expectation, failed)?;
        ready_condition(&node).map(|ready| ready.message.clone()).context("no condition Ready")
    }

    /// Ends the cluster; if tests failed, collects its logs first and says where they are.
    ///
    /// # Errors
    /// If something is left.
    pub fn down(self, failed: bool) -> Result<()> {
        if failed {
            let folder = std::env::temp_dir().join(format!("kwasm-{}-logs", self.cluster.name()));
            let folder = self.cluster.collect(&folder)?;
            eprintln!("logs, events and objects of the cluster: {}", folder.display());
        }
        Cluster::down(self.cluster.name(), &self.session.uninterrupted())?;
        Ok(())
    }
}

/// The chart's folder.
pub fn chart() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/kwasm-operator").to_string_lossy().into_owned()
}

/// Starts a cluster, runs its tests, which tell whether one failed, and ends it: what a test program's `main` does.
#[must_use]
pub fn on_cluster(up: impl FnOnce() -> Result<Road>, tests: impl FnOnce(&Arc<Road>) -> bool) -> ExitCode {
    let road = match up() {
        Ok(road) => Arc::new(road),
        Err(error) => {
            eprintln!("the cluster did not start: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let failed = tests(&road);
    match Arc::into_inner(road).map(|road| road.down(failed)) {
        Some(Ok(())) if !failed => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("the cluster did not end: {error:?}");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}

/// Reads a node's containerd configuration.
///
/// # Errors
/// If it cannot be read.
pub fn read_config(node: &Node) -> Result<String> {
    let path = config_path(node);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A node's containerd configuration, as seen from here.
#[must_use]
pub fn config_path(node: &Node) -> PathBuf {
    node.root().join(Path::new(CONTAINERD_CONFIG))
}

fn succeeded(output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    bail!("{}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn ready_condition(node: &WasmNode) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    node.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Fails with a text unless a message holds all parts.
///
/// # Errors
/// If one is missing.
pub fn holds_all(message: &str, parts: &[&str]) -> Result<()> {
    match parts.iter().find(|part| !message.contains(**part)) {
        Some(missing) => bail!("{missing:?} is not in: {message}"),
        None => Ok(()),
    }
}
