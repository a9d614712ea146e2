//! From an empty cluster to the first wasm pods.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::node::v1::RuntimeClass;
use kwasm_e2e::manifest::{self, available};
use kwasm_e2e::road::{PROVISIONING, Road, holds_all};
use serde_json::{Value, json};

use crate::phases::OnRoad;

pub(crate) const TESTS: &[(&str, OnRoad)] = &[
    ("a WasmRuntime with two sources is refused with the five to choose from", two_sources_are_refused),
    ("a WasmRuntime with a table among its options is refused by the option's name", nested_options_are_refused),
    ("a WasmRuntime whose RuntimeClass could not be made is refused", a_class_that_cannot_be_is_refused),
    ("no RuntimeClass exists before a node is verified", no_class_before_a_node),
    ("a Deployment made before any node is ready waits and then runs", a_deployment_waits_for_nodes),
    ("quick start: helm install, annotate, and every node is verified after one restart of containerd", quick_start),
];

fn two_sources_are_refused(road: &Road) -> Result<()> {
    let spec = json!({"source": {"bundled": {}, "host": {"path": "/usr/bin/crun"}}});
    is_refused(road, &spec, &["a runtime has exactly one source: bundled, http, image, host or preinstalled"])
}

fn nested_options_are_refused(road: &Road) -> Result<()> {
    let spec = json!({"source": {"bundled": {}}, "options": {"SystemdCgroup": true, "Nested": {"a": 1}}});
    is_refused(road, &spec, &["spec.options.Nested"])
}

fn a_class_that_cannot_be_is_refused(road: &Road) -> Result<()> {
    let spec = json!({"source": {"bundled": {}}, "runtimeClass": {"name": "Fast_Wasm"}});
    is_refused(road, &spec, &["spec.runtimeClass.name"])
}

/// The API server does not take a WasmRuntime with this spec, and says why.
fn is_refused(road: &Road, spec: &Value, words: &[&str]) -> Result<()> {
    road.installed()?;
    let mut manifest = tempfile::Builder::new().suffix(".json").tempfile()?;
    let runtime = json!({
        "apiVersion": "kwasm.sh/v1alpha1",
        "kind": "WasmRuntime",
        "metadata": {"name": "undecided"},
        "spec": spec,
    });
    manifest.write_all(runtime.to_string().as_bytes())?;
    match road.kubectl(&["apply", "-f", &manifest.path().to_string_lossy()]) {
        Ok(_) => bail!("the API server took it"),
        Err(error) => holds_all(&format!("{error:#}"), words),
    }
}

fn no_class_before_a_node(road: &Road) -> Result<()> {
    road.installed()?;
    let class = road.kube.get(&road.kube.all::<RuntimeClass>(), "wasmtime")?;
    ensure!(class.is_none(), "it exists already: {class:?}");
    Ok(())
}

fn a_deployment_waits_for_nodes(road: &Road) -> Result<()> {
    road.installed()?;
    let deployments = road.kube.namespaced::<Deployment>();
    road.kube.create(&deployments, &manifest::deployment("early", 1)?)?;
    let refused = |deployment: &Deployment| {
        let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "ReplicaFailure"))
    };
    road.kube.until(&deployments, "early", PROVISIONING, "to wait for the RuntimeClass", refused)?;
    road.provisioned()?;
    road.kube.until(&deployments, "early", PROVISIONING, "to be available", |now| available(now) == 1)?;
    road.kube.delete(&deployments, "early", PROVISIONING)
}

fn quick_start(road: &Road) -> Result<()> {
    let published = road.provisioned()?;
    println!("annotation to RuntimeClass: {:.1} s", published.as_secs_f64());
    for site in road.sites() {
        let starts = site.containerd_starts()?;
        ensure!(
            starts == 2,
            "containerd on {} started {starts} times: once at boot and once is right",
            site.node.name()
        );
        let ending = site.run(site.pod("quick-start").demo(&["echo", "duizhang"]))?;
        ensure!(ending.exit_code == 0 && ending.logs == "duizhang\n", "{ending:?}");
    }
    Ok(())
}
