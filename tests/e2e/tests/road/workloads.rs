//! What users run, on every node.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kwasm_e2e::kube::NAMESPACE;
use kwasm_e2e::manifest::{self, available};
use kwasm_e2e::site::{POD, Site, is_running, restarts, terminated};
use serde_json::json;

use crate::phases::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("a Deployment of a wasm module runs and logs", a_deployment_runs),
    ("the greet Job, whose command is no path, completes", the_greet_job_completes),
    ("a command component of WASI preview 2 runs", a_component_runs),
    ("exit code 3 is seen as 3", exit_code_3_is_3),
    ("a failing container is restarted if its policy says so", a_failing_container_is_restarted),
    ("a failing container is left alone if its policy says so", a_failing_container_is_left_alone),
    ("a container sees its environment and its volumes", a_container_sees_its_surroundings),
    ("kubectl delete ends a pod within its grace period", a_pod_ends_within_its_grace_period),
    ("a pod leaves nothing on its node", a_pod_leaves_nothing),
    ("a Linux pod runs beside wasm pods", a_linux_pod_runs),
];

fn a_deployment_runs(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let deployments = kube.namespaced::<Deployment>();
    let name = site.named("wasm-hello");
    kube.create(&deployments, &manifest::deployment_on(site.node.name(), &name)?)?;
    kube.until(&deployments, &name, POD, "to be available", |now| available(now) == 1)?;
    let pods = kube.list(&kube.namespaced::<Pod>(), &format!("app={name}"))?;
    ensure!(pods.len() == 1 && is_running(&pods[0]), "{pods:?}");
    ensure!(!kube.logs(&pods[0].name_any())?.is_empty(), "it logged nothing");
    kube.delete(&deployments, &name, POD)?;
    kube.until_gone(&kube.namespaced::<Pod>(), &pods[0].name_any(), POD)
}

fn the_greet_job_completes(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let jobs = kube.namespaced::<Job>();
    let name = site.named("greet");
    let pod = site.pod("greet").image("greet", &["greet"]).set("args", json!(["duizhangwww"])).build()?;
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": name}}, "spec": pod.spec}},
    }))?;
    kube.create(&jobs, &job)?;
    let complete = |job: &Job| job.status.as_ref().and_then(|status| status.succeeded) == Some(1);
    kube.until(&jobs, &name, POD, "to complete", complete)?;
    let pods = kube.list(&kube.namespaced::<Pod>(), &format!("app={name}"))?;
    let logs = kube.logs(&pods[0].name_any())?;
    ensure!(logs == "Hello, duizhangwww!\n", "{logs}");
    kube.delete(&jobs, &name, POD)?;
    site.delete(&pods[0].name_any())
}

fn a_component_runs(site: &Site<'_>) -> Result<()> {
    let pod = site.pod("component").image("greet-component", &["/greet.wasm"]).set("args", json!(["component"]));
    let ending = site.run(pod)?;
    ensure!(ending.exit_code == 0 && ending.logs == "Hello, component!\n", "{ending:?}");
    Ok(())
}

fn exit_code_3_is_3(site: &Site<'_>) -> Result<()> {
    let ending = site.run(site.pod("exit-3").demo(&["exit", "3"]))?;
    ensure!(ending.exit_code == 3, "{ending:?}");
    Ok(())
}

fn a_failing_container_is_restarted(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let pods = kube.namespaced::<Pod>();
    let pod = site.pod("restarted").demo(&["exit", "1"]).restart_policy("OnFailure");
    let name = kube.create(&pods, &pod.build()?)?.name_any();
    kube.until(&pods, &name, POD, "to be restarted", |pod| restarts(pod) >= 1)?;
    site.delete(&name)
}

fn a_failing_container_is_left_alone(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let pods = kube.namespaced::<Pod>();
    let name = kube.create(&pods, &site.pod("left-alone").demo(&["exit", "1"]).build()?)?.name_any();
    let failed = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
    let pod = kube.until(&pods, &name, POD, "to have failed", failed)?;
    ensure!(restarts(&pod) == 0 && terminated(&pod) == Some(1), "{pod:?}");
    site.delete(&name)
}

fn a_container_sees_its_surroundings(site: &Site<'_>) -> Result<()> {
    let ending =
        site.run(site.pod("env").demo(&["env"]).set("env", json!([{"name": "GREETING", "value": "good morning"}])))?;
    ensure!(ending.logs.lines().any(|line| line == "GREETING=good morning"), "{ending:?}");
    let volume = json!({"name": "shared", "emptyDir": {}});
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let ending = site
        .run(site.pod("volume").demo(&["write", "/shared/note", "kept"]).volume(volume).set("volumeMounts", mount))?;
    ensure!(ending.exit_code == 0, "{ending:?}");
    let ending = site.run(site.pod("hosts").demo(&["read", "/etc/hosts"]))?;
    ensure!(ending.logs.contains("localhost"), "{ending:?}");
    let namespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let ending = site.run(site.pod("account").demo(&["read", namespace]))?;
    ensure!(ending.logs == NAMESPACE, "{ending:?}");
    Ok(())
}

fn a_pod_ends_within_its_grace_period(site: &Site<'_>) -> Result<()> {
    const GRACE: Duration = Duration::from_secs(30);
    let pod = site.start(site.pod("forever").demo(&[]))?;
    site.road.kube.delete(&site.road.kube.namespaced::<Pod>(), &pod, GRACE)
}

fn a_pod_leaves_nothing(site: &Site<'_>) -> Result<()> {
    let pod = site.start(site.pod("traceless").demo(&[]))?;
    let uid =
        site.road.kube.get(&site.road.kube.namespaced::<Pod>(), &pod)?.and_then(|pod| pod.uid()).unwrap_or_default();
    let pids = site.pids(&pod)?;
    ensure!(!pids.is_empty(), "containerd knows no task of {pod}");
    site.delete(&pod)?;
    for pid in pids {
        ensure!(!site.path(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
    let mounts = site.node.run(&["cat", "/proc/self/mounts"])?;
    ensure!(!mounts.contains(&uid), "a mount is left: {mounts}");
    let cgroups = site.node.run(&["find", "/sys/fs/cgroup", "-type", "d", "-name", &format!("*{uid}*")])?;
    ensure!(cgroups.is_empty(), "cgroups are left: {cgroups}");
    Ok(())
}

fn a_linux_pod_runs(site: &Site<'_>) -> Result<()> {
    let ending = site.run(site.pod("linux").runtime_class(None).image("linux-hello", &["/linux-hello", "native"]))?;
    ensure!(ending.exit_code == 0 && ending.logs == "native\n", "{ending:?}");
    Ok(())
}
