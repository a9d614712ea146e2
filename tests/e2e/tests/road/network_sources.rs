//! Runtimes that nodes fetch: from a web server, and from a registry with TLS and a login.

mod guards;
mod registry;
mod web_server;

use anyhow::{Result, ensure};
use k8s_openapi::api::node::v1::RuntimeClass;
use kwasm_api::wasm_runtime::WasmRuntime;
use kwasm_e2e::road::{PROVISIONING, Road, holds_all};
use kwasm_e2e::site::Site;
use kwasm_installer::artifacts::remote::platform;
use kwasm_test_cluster::ContainerdVersion;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::phases::OnRoad;
use guards::{PullSecret, Trust, Wanted};
use registry::{PASSWORD, Registry, WRONG_PASSWORD};
use web_server::WebServer;

pub(crate) const TESTS: &[(&str, OnRoad)] = &[
    ("a runtime from a web server is downloaded once by every node and runs wasm pods", a_web_server_serves),
    ("a download with another digest is refused with both and the other runtimes keep working", a_digest_differs),
    ("a registry that wants a login is told of with the node and the image", a_login_is_missing),
    ("a pull secret that a registry refuses is told of and is in no message", a_login_is_refused),
    ("a runtime from a registry with TLS and a login runs Linux pods on every node", a_registry_serves),
];

/// The path of the only file that the web server has.
const ARCHIVE: &str = "/releases/runtime.tar.gz";

fn a_web_server_serves(road: &Road) -> Result<()> {
    leaving_nothing(road, || {
        let archive = archive(&road.site(ContainerdVersion::V1_6)?)?;
        let (sha256, nodes) = (sha256(&archive), road.sites().len());
        let server = WebServer::serving(road.cluster.machine_address(), ARCHIVE, archive)?;
        let spec = with(on_all_nodes(), "source", from_web(&server.url(), &sha256));
        let runtime = Wanted::apply(road, "served", &spec)?;
        until_ready(road, "served")?;
        for site in road.sites() {
            let pod = site.pod("served").runtime_class(Some("served")).demo(&["echo", "from the web"]);
            let ending = site.run(pod)?;
            ensure!(ending.exit_code == 0 && ending.logs == "from the web\n", "{ending:?}");
        }
        let downloads = vec![format!("GET {ARCHIVE} HTTP/1.1"); nodes];
        ensure!(server.asked() == downloads, "{:?}", server.asked());

        let said = runtime.apply_again(&spec)?;
        ensure!(said.contains("unchanged"), "{said}");
        // This starts the installer on every node again.
        runtime.apply_again(&with(spec, "podAnnotations", json!(["example.com/*"])))?;
        until_ready(road, "served")?;
        ensure!(server.asked() == downloads, "downloaded again: {:?}", server.asked());
        Ok(())
    })
}

fn a_digest_differs(road: &Road) -> Result<()> {
    leaving_nothing(road, || {
        let site = road.site(ContainerdVersion::V2_1)?;
        let (config, content) = (site.containerd_config()?, b"not what was tested".to_vec());
        let (found, expected) = (sha256(&content), sha256(b"what was tested"));
        let server = WebServer::serving(road.cluster.machine_address(), ARCHIVE, content)?;
        let spec = with(on_one_node(&site), "source", from_web(&server.url(), &expected));
        let _runtime = Wanted::apply(road, "tampered", &spec)?;
        let message = road.failure_message(site.node.name(), "ArtifactRefused")?;
        holds_all(&message, &[&server.url(), &expected, &found, "The node is unchanged."])?;
        until_failed(road, "tampered", site.node.name())?;

        ensure!(site.containerd_config()? == config, "the configuration changed");
        let ending = site.run(site.pod("undisturbed").demo(&["echo", "still here"]))?;
        ensure!(ending.exit_code == 0 && ending.logs == "still here\n", "{ending:?}");
        let class = road.kube.get(&road.kube.all::<RuntimeClass>(), "tampered")?;
        ensure!(class.is_none(), "its RuntimeClass is published: {class:?}");
        Ok(())
    })
}

fn a_login_is_missing(road: &Road) -> Result<()> {
    leaving_nothing(road, || {
        let registry = Registry::at(road.cluster.machine_address())?;
        is_not_let_in(road, &registry, "it wants a login, and no pull secret has one for it")
    })
}

fn a_login_is_refused(road: &Road) -> Result<()> {
    leaving_nothing(road, || {
        let registry = Registry::at(road.cluster.machine_address())?;
        let _secret = PullSecret::of_chart(road, "team-registry", &registry.login_file(WRONG_PASSWORD)?)?;
        is_not_let_in(road, &registry, "it refuses the pull secret: HTTP 401")
    })
}

/// A node that would pull from this registry fails, and says so in these words.
fn is_not_let_in(road: &Road, registry: &Registry, words: &str) -> Result<()> {
    let site = road.site(ContainerdVersion::V1_7)?;
    let image = registry.push(&site.path(RUNC))?;
    let _trust = Trust::in_authority(road, registry.authority())?;
    let spec = with(on_one_node(&site), "source", from_image(&image));
    let _runtime = Wanted::apply(road, "private", &with(spec, "kind", json!("OCI")))?;
    let message = road.failure_message(site.node.name(), "ArtifactNotFetched")?;
    holds_all(&message, &[&image, words, "The node is unchanged."])?;
    until_failed(road, "private", site.node.name())?;
    no_secret_is_told(road)
}

fn a_registry_serves(road: &Road) -> Result<()> {
    leaving_nothing(road, || {
        let registry = Registry::at(road.cluster.machine_address())?;
        let image = registry.push(&road.site(ContainerdVersion::V1_6)?.path(RUNC))?;
        let _trust = Trust::in_authority(road, registry.authority())?;
        let _secret = PullSecret::of_chart(road, "team-registry", &registry.login_file(PASSWORD)?)?;
        let spec = with(on_all_nodes(), "source", from_image(&image));
        let _runtime = Wanted::apply(road, "pulled", &with(spec, "kind", json!("OCI")))?;
        until_ready(road, "pulled")?;
        for site in road.sites() {
            site.node.run(&["cmp", "/opt/kwasm/bin/pulled", RUNC])?;
            let pod = site.pod("pulled").runtime_class(Some("pulled"));
            let ending = site.run(pod.image("linux-hello", &["/linux-hello", "from the registry"]))?;
            ensure!(ending.exit_code == 0 && ending.logs == "from the registry\n", "{ending:?}");
        }
        no_secret_is_told(road)
    })
}

/// Where Debian has runc.
const RUNC: &str = "/usr/sbin/runc";

/// Runs a scenario on verified nodes, which must look afterwards as they did before.
fn leaving_nothing(road: &Road, scenario: impl FnOnce() -> Result<()>) -> Result<()> {
    road.provisioned()?;
    let look = || road.sites().iter().map(footprint).collect::<Result<Vec<_>>>();
    let before = look()?;
    scenario()?;
    for site in road.sites() {
        site.until_verified()?;
    }
    let after = look()?;
    let changed = before.iter().zip(&after).find(|(before, after)| before != after);
    ensure!(changed.is_none(), "a node is not as it was: {changed:#?}");
    Ok(())
}

/// What a fetched runtime could leave on a node.
fn footprint(site: &Site<'_>) -> Result<String> {
    const FILES: &str = "find /opt /etc/containerd -printf '%p %y %l\\n' | sort
        sha256sum /etc/containerd/config.toml /etc/ssl/certs/ca-certificates.crt";
    Ok(site.node.run(&["sh", "-c", FILES])?)
}

/// The runtime that the node has already, shim, engine and compiler, as a project would release it.
fn archive(site: &Site<'_>) -> Result<Vec<u8>> {
    const PACK: &str = r#"tar -cz -C "$(dirname "$(readlink -f /opt/kwasm/bin/containerd-shim-wasmtime-v1)")" ."#;
    let tar = site.node.exec(&["sh", "-c", PACK])?;
    ensure!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    Ok(tar.stdout)
}

fn from_web(url: &str, sha256: &str) -> Value {
    json!({"http": {"artifacts": [{"platform": platform(), "url": url, "sha256": sha256}]}})
}

fn from_image(reference: &str) -> Value {
    json!({"image": {"reference": reference, "path": "/runtime"}})
}

/// A spec for every node that opted in, all at once.
fn on_all_nodes() -> Value {
    json!({"rollout": {"maxUnavailable": "100%"}})
}

fn on_one_node(site: &Site<'_>) -> Value {
    json!({"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": site.node.name()}}})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

fn until_ready(road: &Road, name: &str) -> Result<()> {
    let nodes = i32::try_from(road.sites().len())?;
    let ready = |runtime: &WasmRuntime| {
        let status = runtime.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == runtime.metadata.generation
                && status.nodes.ready == nodes
                && status.conditions.iter().any(|said| said.type_ == "Ready" && said.status == "True")
        })
    };
    road.kube.until(&road.kube.all(), name, PROVISIONING, "to be ready on all nodes", ready).map(drop)
}

/// Waits until a WasmRuntime says that it failed on a node.
fn until_failed(road: &Road, name: &str, node: &str) -> Result<()> {
    let degraded = |runtime: &WasmRuntime| {
        let conditions = runtime.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|said| said.type_ == "Degraded" && said.status == "True" && said.message.contains(node))
    };
    road.kube.until(&road.kube.all(), name, PROVISIONING, "to name the node that failed", degraded).map(drop)
}

/// Neither a password nor what HTTP makes of it is in anything that KWasm says.
fn no_secret_is_told(road: &Road) -> Result<()> {
    let objects = road.kubectl(&["get", "wasmruntimes,wasmnodes,jobs,pods,events,nodes", "-A", "-o", "json"])?;
    // A pod of the next attempt that has no log yet is no error.
    let logs = |of: &[&str]| road.kubectl(&[&["logs", "-n", "kwasm", "--tail=-1", "--ignore-errors"], of].concat());
    let installers = logs(&["-l", "kwasm.sh/job=true"])?;
    holds_all(&installers, &[registry::REPOSITORY])?;
    let operator = logs(&["deployment/kwasm-operator"])?;
    for (place, text) in [("an object", objects), ("an installer's log", installers), ("the operator's log", operator)]
    {
        ensure!(!text.is_empty(), "{place} is empty");
        ensure!(!registry::secrets().iter().any(|secret| text.contains(secret)), "{place} tells the secret: {text}");
    }
    Ok(())
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
