//! Images that try to get at their node while their container is prepared.

use anyhow::{Result, ensure};
use kwasm_e2e::manifest::WasmPod;
use kwasm_e2e::road::holds_all;
use kwasm_e2e::site::Site;
use serde_json::json;

use crate::phases::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("a device node in an image opens nothing", a_device_node_opens_nothing),
    ("a mount on a link to a descriptor is refused", a_mount_on_a_descriptor_is_refused),
    ("a working folder behind a link to a descriptor is refused", a_working_folder_behind_a_descriptor_is_refused),
    ("links out of an image stay in its root", links_stay_in_the_root),
];

/// Links of the image to descriptors of the process that prepares the container: programs, the store of compiled modules.
const DESCRIPTORS: [&str; 3] = ["/fd4", "/fd5", "/fd6"];

/// Where the image's other links lead.
const ESCAPE: &str = "/var/lib/kwasm/escaped";

fn hostile(site: &Site<'_>, name: &str, file: &str) -> WasmPod {
    site.pod(name).image("hostile", &["/open.wasm", file])
}

fn mounting_at(pod: WasmPod, path: &str) -> WasmPod {
    pod.volume(json!({"name": "empty", "emptyDir": {}}))
        .set("volumeMounts", json!([{"name": "empty", "mountPath": path}]))
}

fn a_device_node_opens_nothing(site: &Site<'_>) -> Result<()> {
    let own = site.run(hostile(site, "own-device", "/dev/null"))?;
    ensure!(own.exit_code == 0, "the container's own devices can be opened: {own:?}");
    let ending = site.run(hostile(site, "device-node", "/null"))?;
    ensure!(ending.exit_code == 1, "{ending:?}");
    holds_all(&ending.logs, &["/null", "denied"])
}

fn a_mount_on_a_descriptor_is_refused(site: &Site<'_>) -> Result<()> {
    for link in DESCRIPTORS {
        let name = format!("mount-on{}", link.replace('/', "-"));
        let place = format!("{link}/planted");
        site.refusal(mounting_at(hostile(site, &name, "/dev/null"), &place), &place)?;
    }
    nothing_is_planted(site)
}

fn a_working_folder_behind_a_descriptor_is_refused(site: &Site<'_>) -> Result<()> {
    for link in DESCRIPTORS {
        let name = format!("work-in{}", link.replace('/', "-"));
        let place = format!("{link}/planted");
        site.refusal(hostile(site, &name, "/dev/null").set("workingDir", json!(place)), &place)?;
    }
    nothing_is_planted(site)
}

fn links_stay_in_the_root(site: &Site<'_>) -> Result<()> {
    for link in ["absolute", "upwards"] {
        let pod = mounting_at(hostile(site, &format!("mount-{link}"), ESCAPE), &format!("/{link}/planted"));
        let ending = site.run(pod.set("workingDir", json!(format!("/{link}/work"))))?;
        ensure!(ending.exit_code == 0, "{ending:?}");
        ensure!(!site.path(ESCAPE).exists(), "{ESCAPE} is on the node");
    }
    Ok(())
}

fn nothing_is_planted(site: &Site<'_>) -> Result<()> {
    let found = site.node.run(&["find", "/var/lib/kwasm", "/opt/kwasm", "-name", "planted"])?;
    ensure!(found.is_empty(), "on the node: {found}");
    Ok(())
}
