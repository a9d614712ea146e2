//! What a user sees when something is wrong with a pod.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt;
use kwasm_e2e::road::holds_all;
use kwasm_e2e::site::{POD, Site};
use serde_json::json;

use crate::phases::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("a module that traps exits with 134 and its log says why", a_trap_says_why),
    ("a file that is not wasm is refused by its name", not_wasm_is_refused),
    ("an image without the file is refused by the file's name", a_missing_file_is_refused),
    ("a handler that no node serves is named in the pod's events", an_unknown_handler_is_named),
];

fn a_trap_says_why(site: &Site<'_>) -> Result<()> {
    let ending = site.run(site.pod("trap").image("trap", &["/trap.wasm"]))?;
    ensure!(ending.exit_code == 134, "{ending:?}");
    holds_all(&ending.logs, &["unreachable"])
}

fn not_wasm_is_refused(site: &Site<'_>) -> Result<()> {
    let message = site.refusal(site.pod("not-wasm").image("not-wasm", &["/not-wasm.wasm"]), "not-wasm.wasm")?;
    holds_all(&message, &["/not-wasm.wasm", "WebAssembly"])
}

fn a_missing_file_is_refused(site: &Site<'_>) -> Result<()> {
    let message = site.refusal(site.pod("no-file").image("no-file", &["/missing.wasm"]), "missing.wasm")?;
    holds_all(&message, &["/missing.wasm", "no such file"])
}

fn an_unknown_handler_is_named(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let classes = kube.all::<RuntimeClass>();
    let class: RuntimeClass =
        serde_json::from_value(json!({"metadata": {"name": site.named("nobody")}, "handler": "nobody-serves-this"}))?;
    kube.create(&classes, &class)?;
    let pods = kube.namespaced::<Pod>();
    let pod = site.pod("unserved").demo(&["echo"]).runtime_class(Some(&class.name_any())).build()?;
    let name = kube.create(&pods, &pod)?.name_any();
    kube.until_event(&name, POD, "no runtime for \"nobody-serves-this\" is configured")?;
    site.delete(&name)?;
    kube.delete(&classes, &class.name_any(), POD)
}
