//! Nodes that come and go, and the end of it all.

use std::fs;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kwasm_api::names;
use kwasm_api::wasm_runtime::WasmRuntime;
use kwasm_e2e::manifest::{self, available};
use kwasm_e2e::road::{PROVISIONING, Road, chart};
use kwasm_test_cluster::ContainerdVersion;
use serde_json::{Value, json};

use crate::phases::OnRoad;

pub(crate) const TESTS: &[(&str, OnRoad)] = &[
    ("the RuntimeClass sends pods to provisioned nodes only", pods_go_to_provisioned_nodes_only),
    ("a node that joins with the annotation is provisioned with nobody's help", a_new_node_is_provisioned),
    ("the RuntimeClass goes with the last node", the_class_goes_with_the_last_node),
    ("the chart has each of its runtimes once, whatever their specs", each_runtime_once),
    ("helm upgrade brings the CRDs up to date", an_upgrade_upgrades_the_crds),
    ("the operator asks for nothing that its role does not allow", the_operator_is_refused_nothing),
    ("helm uninstall leaves no WasmRuntime behind, whoever made it", uninstalling_leaves_no_runtime),
];

/// Enough that a scheduler that did not know better would use every node.
const PODS: i32 = 9;

fn pods_go_to_provisioned_nodes_only(road: &Road) -> Result<()> {
    road.provisioned()?;
    let bare = road.site(ContainerdVersion::V1_6)?;
    road.opt_out(bare.node.name())?;
    bare.until_clean()?;

    let deployments = road.kube.namespaced::<Deployment>();
    road.kube.create(&deployments, &manifest::deployment("anywhere", PODS)?)?;
    road.kube.until(&deployments, "anywhere", PROVISIONING, "to be available", |now| available(now) == PODS)?;
    for pod in road.kube.list(&road.kube.namespaced::<Pod>(), "app=anywhere")? {
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        ensure!(node != bare.node.name(), "a pod runs on {node}, which has no runtime");
    }
    road.kube.delete(&deployments, "anywhere", PROVISIONING)?;

    road.opt_in(bare.node.name())?;
    bare.until_verified()
}

fn a_new_node_is_provisioned(road: &Road) -> Result<()> {
    road.provisioned()?;
    let name = format!("{}-n2", road.site(ContainerdVersion::V1_7)?.node.name());
    let node = road.join_annotated(ContainerdVersion::V1_7, &name)?;
    let site = road.site_of(&node);
    site.until_verified()?;
    let ending = site.run(site.pod("newcomer").demo(&["echo", "hello"]))?;
    ensure!(ending.exit_code == 0 && ending.logs == "hello\n", "{ending:?}");
    Ok(())
}

fn the_class_goes_with_the_last_node(road: &Road) -> Result<()> {
    road.provisioned()?;
    road.kubectl(&["annotate", "node", "--all", "kwasm.sh/kwasm-node-"])?;
    for site in road.sites() {
        site.until_clean()?;
        ensure!(site.containerd_config()? == site.original_config()?, "{} is not as it was", site.node.name());
    }
    road.kube.until_gone(&road.kube.all::<RuntimeClass>(), "wasmtime", PROVISIONING)?;
    let jobs = road.kube.list(&road.kube.all::<Job>(), "kwasm.sh/job=true")?;
    ensure!(jobs.is_empty(), "Jobs are left: {jobs:?}");
    Ok(())
}

fn each_runtime_once(road: &Road) -> Result<()> {
    let chart = chart();
    let values = ["--set", "runtimes.spin.source.host.path=/x,runtimes.wasmtime.runtimeClass.name=wasm"];
    let rendered = road.cluster.helm(&[&["template", "kwasm", chart.as_str()][..], &values].concat())?;
    let text = String::from_utf8(rendered.stdout)?;
    let runtimes: Vec<&str> = text.split("---").filter(|document| document.contains("kind: WasmRuntime\n")).collect();
    ensure!(runtimes.len() == 2, "{text}");
    let bundled = runtimes.iter().filter(|runtime| runtime.contains("bundled: {}")).count();
    ensure!(bundled == 1, "{runtimes:?}");
    Ok(())
}

fn an_upgrade_upgrades_the_crds(road: &Road) -> Result<()> {
    const CRD: &str = "wasmruntimes.kwasm.sh";
    const PROPERTY: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/podAnnotations";
    road.installed()?;
    let crds = road.kube.all::<CustomResourceDefinition>();
    let has_it =
        |crd: &CustomResourceDefinition| serde_json::to_value(crd).is_ok_and(|crd| crd.pointer(PROPERTY).is_some());
    let older = json!([{"op": "remove", "path": PROPERTY}]);
    road.kubectl(&["patch", "crd", CRD, "--type=json", "--patch", &older.to_string()])?;
    road.kube.until(&crds, CRD, PROVISIONING, "to be that of an older version", |crd| !has_it(crd))?;
    road.upgrade()?;
    road.kube.until(&crds, CRD, PROVISIONING, "to be that of this version", has_it).map(drop)
}

fn uninstalling_leaves_no_runtime(road: &Road) -> Result<()> {
    road.installed()?;
    let runtimes = road.kube.all::<WasmRuntime>();
    let own = serde_json::from_value(json!({
        "apiVersion": "kwasm.sh/v1alpha1",
        "kind": "WasmRuntime",
        "metadata": {"name": "own"},
        "spec": {"source": {"bundled": {"name": "wasmtime"}}},
    }))?;
    road.kube.create(&runtimes, &own)?;
    let is_guarded = |runtime: &WasmRuntime| runtime.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    road.kube.until(&runtimes, "own", PROVISIONING, "to be guarded", is_guarded)?;
    road.uninstall()?;
    let left = road.kube.list(&runtimes, "")?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn the_operator_is_refused_nothing(road: &Road) -> Result<()> {
    const OPERATOR: &str = "system:serviceaccount:kwasm:kwasm-operator";
    const FORBIDDEN: u64 = 403;
    let audit = fs::read_to_string(road.cluster.audit_log())?;
    let events = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut asked, mut refused) = (0, Vec::new());
    for event in events.filter(|event| event["user"]["username"] == OPERATOR) {
        asked += 1;
        if event["responseStatus"]["code"] == FORBIDDEN {
            refused.push(format!("{} {}", event["verb"], event["requestURI"]));
        }
    }
    ensure!(asked > 0, "the audit log knows nothing of {OPERATOR}");
    ensure!(refused.is_empty(), "refused: {refused:?}");
    Ok(())
}
