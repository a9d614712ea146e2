//! What a node's administrator does to containers, and finds of them.

use anyhow::{Result, ensure};
use kwasm_e2e::road::holds_all;
use kwasm_e2e::site::Site;

use crate::phases::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("a paused container can be deleted", a_paused_container_can_be_deleted),
    ("a container in a slice is a scope of systemd, and is gone with it", a_container_in_a_slice_is_a_scope),
];

/// The shim, where the installer links it.
const SHIM: &str = "/opt/kwasm/bin/containerd-shim-wasmtime-v1";

fn a_paused_container_can_be_deleted(site: &Site<'_>) -> Result<()> {
    let pod = site.start(site.pod("paused").demo(&[]).grace_seconds(1))?;
    let container = site.container_id(&pod)?;
    site.node.run(&["ctr", "-n", "k8s.io", "tasks", "pause", &container])?;
    let tasks = site.node.run(&["ctr", "-n", "k8s.io", "tasks", "list"])?;
    let paused = |task: &str| task.starts_with(&container) && task.ends_with("PAUSED");
    ensure!(tasks.lines().any(|task| paused(task.trim_end())), "it is not paused: {tasks}");
    site.delete(&pod)
}

/// As kubelet's cgroup driver `systemd` has it, whatever the driver of this node's kubelet is.
fn a_container_in_a_slice_is_a_scope(site: &Site<'_>) -> Result<()> {
    let (image, id) = ("docker.io/library/wasi-demo-app:latest", "scoped");
    let run = ["ctr", "-n", "k8s.io", "run", "--detach", "--null-io", "--runtime", SHIM];
    let cgroup = ["--cgroup", "kwasm-test.slice:kwasm:scoped", "--memory-limit", "100000000"];
    site.node.run(&[&run[..], &cgroup[..], &[image, id]].concat())?;
    let show = ["systemctl", "show", "kwasm-scoped.scope", "--property=ControlGroup,Delegate,MemoryMax,MemoryLimit"];
    let shown = site.node.run(&show);
    let kill = ["ctr", "-n", "k8s.io", "tasks", "delete", "--force", id];
    site.node.run(&kill)?;
    site.node.run(&["ctr", "-n", "k8s.io", "containers", "delete", id])?;
    let shown = shown?;
    holds_all(&shown, &["/kwasm.slice/kwasm-test.slice/kwasm-scoped.scope", "Delegate=yes", "=100000000"])?;
    let left = site.node.run(&["find", "/sys/fs/cgroup", "-type", "d", "-name", "kwasm-scoped.scope"])?;
    ensure!(left.is_empty(), "cgroups are left: {left}");
    Ok(())
}
