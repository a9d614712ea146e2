//! What must not disturb a node, and what a node looks like after something went wrong.

use std::fs;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kwasm_e2e::road::holds_all;
use kwasm_e2e::site::{POD, Site, is_running, is_unschedulable, restarts};

use crate::phases::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("containerd restarted by hand: wasm and Linux pods keep running with the same pids", pods_survive_a_restart),
    ("un-annotating restores the node byte for byte and annotating provisions it again", a_node_goes_and_comes_back),
    ("a config.toml that is not TOML stays as it is and the condition says where", a_broken_config_is_left_alone),
    ("containerd that refuses the new configuration gets its old one back", a_refused_configuration_is_rolled_back),
];

fn pods_survive_a_restart(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let pods = kube.namespaced::<Pod>();
    let wasm = site.start(site.pod("survivor").demo(&[]))?;
    let linux = site.start(linux_forever(site))?;
    let before = [site.pids(&wasm)?, site.pids(&linux)?];
    ensure!(before.iter().all(|pids| pids.len() == 2), "a sandbox and a container each: {before:?}");
    site.node.run(&["systemctl", "restart", "containerd"])?;
    ensure!([site.pids(&wasm)?, site.pids(&linux)?] == before, "the pids changed");
    let ending = site.run(site.pod("after-restart").demo(&["echo", "still here"]))?;
    ensure!(ending.logs == "still here\n", "{ending:?}");
    for name in [wasm, linux] {
        let pod = kube.until(&pods, &name, POD, "to run", is_running)?;
        ensure!(restarts(&pod) == 0, "{name} was restarted");
        ensure!(!kube.logs(&name)?.is_empty(), "{name} lost its log");
        site.delete(&name)?;
    }
    Ok(())
}

fn a_node_goes_and_comes_back(site: &Site<'_>) -> Result<()> {
    let kube = &site.road.kube;
    let starts = site.containerd_starts()?;
    take_off(site)?;
    let left = ["/opt/kwasm", "/var/lib/kwasm"].map(|path| site.path(path)).into_iter().find(|path| path.exists());
    ensure!(left.is_none(), "{left:?} is left");
    ensure!(site.containerd_starts()? == starts + 1, "one restart removes the runtime");

    let pods = kube.namespaced::<Pod>();
    let name = kube.create(&pods, &site.pod("waiting").demo(&["echo", "at last"]).build()?)?.name_any();
    kube.until(&pods, &name, POD, "to find no node", is_unschedulable)?;
    put_on(site)?;
    let ended = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    kube.until(&pods, &name, POD, "to end", ended)?;
    site.delete(&name)
}

fn a_broken_config_is_left_alone(site: &Site<'_>) -> Result<()> {
    take_off(site)?;
    let linux = site.start(linux_forever(site))?;
    let pids = site.pids(&linux)?;
    let path = site.path("/etc/containerd/config.toml");
    let original = fs::read(&path)?;
    let broken = [original.as_slice(), b"\n[plugins.broken\n"].concat();
    fs::write(&path, &broken)?;

    site.road.opt_in(site.node.name())?;
    let message = site.road.failure_message(site.node.name(), "ConfigNotToml")?;
    holds_all(&message, &["/etc/containerd/config.toml", "line", "column"])?;
    ensure!(fs::read(&path)? == broken, "the file changed");
    ensure!(site.pids(&linux)? == pids, "the Linux pod did not keep running");
    site.delete(&linux)?;

    fs::write(&path, &original)?;
    take_off(site)?;
    put_on(site)
}

fn a_refused_configuration_is_rolled_back(site: &Site<'_>) -> Result<()> {
    take_off(site)?;
    let linux = site.start(linux_forever(site))?;
    let pids = site.pids(&linux)?;
    let folder = site.path("/etc/systemd/system/containerd.service.d");
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("refuse.conf"),
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q kwasm /etc/containerd/config.toml'\n",
    )?;
    site.node.run(&["systemctl", "daemon-reload"])?;

    site.road.opt_in(site.node.name())?;
    let message = site.road.failure_message(site.node.name(), "RestartFailed")?;
    holds_all(&message, &["containerd.service", "rolled back"])?;
    ensure!(site.containerd_config()? == site.original_config()?, "the old configuration is not back");
    ensure!(site.pids(&linux)? == pids, "the Linux pod did not keep running");
    site.delete(&linux)?;

    fs::remove_dir_all(&folder)?;
    site.node.run(&["systemctl", "daemon-reload"])?;
    take_off(site)?;
    put_on(site)
}

fn linux_forever(site: &Site<'_>) -> kwasm_e2e::manifest::WasmPod {
    site.pod("linux-forever").runtime_class(None).image("linux-hello", &["/linux-hello"])
}

fn take_off(site: &Site<'_>) -> Result<()> {
    site.road.opt_out(site.node.name())?;
    site.until_clean()?;
    ensure!(site.containerd_config()? == site.original_config()?, "config.toml is not what it was");
    Ok(())
}

fn put_on(site: &Site<'_>) -> Result<()> {
    site.road.opt_in(site.node.name())?;
    site.until_verified()
}
