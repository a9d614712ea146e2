//! `cargo xtask demo`: from nothing to the log of a wasm pod, on a cluster of this machine.
//!
//! [`up`] is the road: machine → images → cluster → `helm install` → `kubectl annotate` → pods → [`logs`].

mod logs;

use anyhow::Result;
use clap::Subcommand;
use kwasm_test_cluster::{Cluster, ClusterError, ClusterName, ContainerdVersion, RegistryError, Session};

use crate::images;
use crate::steps::Steps;
use crate::{kubectl, road, setup};

/// What to do with the demo.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Demo {
    /// Start it, or bring the running one up to date.
    Up,
    /// Take all of it away.
    Down,
}

const NAME: &str = "demo";

/// Does what the command line says.
///
/// # Errors
/// If a step fails; the error says which, why, and what to look at.
pub fn run(demo: Demo) -> Result<()> {
    match demo {
        Demo::Up => up(),
        Demo::Down => down(),
    }
}

fn down() -> Result<()> {
    let name: ClusterName = NAME.parse()?;
    let found = Cluster::down(&name, &Session::to_stderr())?;
    println!("{}", if found { "The demo is gone." } else { "There is no demo." });
    Ok(())
}

fn up() -> Result<()> {
    // Unsuitable machines hear so before the first step, in one line.
    setup::run()?;
    let mut steps = Steps::new(8);
    steps.step("build the images", "the compiler's lines above", || Ok(images::build_all()?))?;
    let (cluster, was_running) = &steps.step("start a cluster of three nodes", "the lines above", start)?;
    let look = Look(cluster);
    steps.step("import the images on every node", "`journalctl -u containerd` on the node", || {
        road::import(cluster, &images::archives()?)
    })?;
    steps.step("helm install kwasm-operator", look.at("-n kwasm get events"), || install(cluster, *was_running))?;
    steps.step("kubectl annotate node --all kwasm.sh/kwasm-node=true", look.at("get nodes"), || opt_in(cluster))?;
    steps.step("wait until every node is verified", look.at("get wasmruntimes,wasmnodes -o wide"), || {
        verified(cluster)
    })?;
    steps.step("run a Deployment and a Job of WebAssembly", look.at("describe pods"), || workloads(cluster))?;
    let lines = steps.step("read their logs", look.at("get pods -o wide"), || logs::read(cluster))?;
    println!("\n{}", logs::table(&lines));
    logs::on_every_version(&lines, &ContainerdVersion::ALL.map(ContainerdVersion::as_str))?;
    println!("{}", closing(cluster, &steps.elapsed()));
    Ok(())
}

/// The commands that show what went wrong.
struct Look<'a>(&'a Cluster);

impl Look<'_> {
    fn at(&self, words: &str) -> String {
        format!("`{} {words}`", kubectl::line(self.0))
    }
}

/// The running demo, or a new one; and whether it was running.
fn start() -> Result<(Cluster, bool)> {
    let name: ClusterName = NAME.parse()?;
    let session = Session::to_stderr();
    if let Some(cluster) = running(&name, &session)? {
        session.say("it is running already; `make demo-down` ends it");
        return Ok((cluster, true));
    }
    session.stop_on_signals()?;
    Ok((Cluster::up(&name, &ContainerdVersion::ALL, &session)?, false))
}

/// The demo that answers. One that does not (this machine was started again since) is taken away.
fn running(name: &ClusterName, session: &Session) -> Result<Option<Cluster>> {
    let cluster = match Cluster::open(name, session) {
        Ok(cluster) => cluster,
        Err(ClusterError::Registry(RegistryError::Unknown(_))) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if kubectl::run(&cluster, &["get", "--raw", "/readyz", "--request-timeout=5s"]).is_ok() {
        return Ok(Some(cluster));
    }
    session.say("there is a demo that does not answer");
    Cluster::down(name, session)?;
    Ok(None)
}

fn install(cluster: &Cluster, was_running: bool) -> Result<()> {
    road::install(cluster)?;
    if was_running {
        // The operator's image may be newer, and its tag is the same: helm sees no difference.
        kubectl::run(cluster, &["rollout", "restart", "deployment", "-n", "kwasm"])?;
        kubectl::run(cluster, &["rollout", "status", "deployment", "-n", "kwasm", "--timeout=120s"])?;
    }
    // Before the nodes opt in, so that each gets both handlers in one change.
    kubectl::apply(cluster, "xtask/demo/wasmrun.yaml")
}

fn opt_in(cluster: &Cluster) -> Result<()> {
    road::annotate(cluster)?;
    // What the RuntimeClass `wasmrun` selects.
    kubectl::run(cluster, &["label", "node", "--all", "--overwrite", "app=wasmrun"]).map(drop)
}

fn verified(cluster: &Cluster) -> Result<()> {
    road::published(cluster)?;
    road::verified(cluster, "wasmtime")?;
    road::verified(cluster, "wasmrun")
}

fn workloads(cluster: &Cluster) -> Result<()> {
    let file = kubectl::path("xtask/demo/workloads.yaml");
    // An earlier demo's pods would show their old logs.
    kubectl::run(cluster, &["delete", "--ignore-not-found", "--wait", "-f", &file])?;
    kubectl::run(cluster, &["apply", "-f", &file])?;
    kubectl::run(cluster, &["wait", "--for=condition=complete", "job/greet", "--timeout=120s"]).map(drop)
}

fn closing(cluster: &Cluster, elapsed: &str) -> String {
    let kubeconfig = cluster.kubeconfig();
    let kubectl = kubectl::line(cluster);
    format!(
        "WebAssembly runs on all three versions of containerd ({elapsed}). What to try next:\n\n\
         \x20 export KUBECONFIG={kubeconfig}\n\
         \x20 kubectl get wasmruntimes,wasmnodes -o wide\n\
         \x20 kubectl annotate node {node} kwasm.sh/kwasm-node-      # takes everything off a node again\n\
         \x20 make demo-down\n\n\
         Without a kubectl on this machine, the cluster's own: {kubectl} get pods -o wide",
        kubeconfig = kubeconfig.display(),
        node = cluster.nodes().ok().and_then(|nodes| Some(nodes.first()?.name().to_owned())).unwrap_or_default(),
    )
}
