//! Everything that makes the shared base system this one node.

use std::path::Path;

use super::{Node, NodeError};
use crate::control_plane::{CLUSTER_DNS, Layout};
use crate::files;
use crate::pieces::OLDER_PAUSE_REFERENCES;
use crate::pki::{Authority, Subject};

const UNITS: [(&str, &str, &str); 4] = [
    ("node-prepare.service", include_str!("prepare.service"), "sysinit.target"),
    ("pause-image.service", include_str!("pause-image.service"), "multi-user.target"),
    ("kubelet.service", include_str!("kubelet.service"), "multi-user.target"),
    ("kube-proxy.service", include_str!("kube-proxy.service"), "multi-user.target"),
];

/// What the base would start to no use here, each for a second or so of the boot.
const UNWANTED: [&str; 12] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-pstore.service",
    "systemd-update-utmp.service",
];

/// Where the OCI archive of the pause image is bound in.
pub(super) const PAUSE_ARCHIVE: &str = "/usr/local/lib/node/pause.tar";

/// Writes the node's own files into `tree`, the layer above the base.
pub(super) fn write(node: &Node, layout: &Layout, server: &str, tree: &Path) -> Result<(), NodeError> {
    write_system(node, tree)?;
    write_units(tree)?;
    write_kubernetes(node, layout, server, tree)
}

fn write_system(node: &Node, tree: &Path) -> Result<(), NodeError> {
    files::write(&tree.join("etc/hostname"), format!("{}\n", node.name()))?;
    files::write(&tree.join("etc/hosts"), format!("127.0.0.1 localhost\n{} {}\n", node.address(), node.name()))?;
    files::write(&tree.join("etc/resolv.conf"), "# This machine has no DNS.\n")?;
    files::write(
        &tree.join("etc/systemd/journald.conf.d/node.conf"),
        "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
    )?;
    files::make_folder(&tree.join("var/log/journal"))?;
    files::write(&tree.join("etc/containerd/config.toml"), node.containerd_version().config())?;
    files::link(&tree.join("opt/cni/bin"), "/usr/lib/cni")?;
    let pods = node.network.pods(node.record.index);
    files::write(&tree.join("etc/cni/net.d/10-bridge.conflist"), bridge(&pods))?;
    Ok(())
}

/// The pod network of one node: a bridge, and addresses from the node's range. Nothing is
/// masqueraded, because every node and the machine know the way to every pod.
fn bridge(pods: &str) -> String {
    let config = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

fn write_units(tree: &Path) -> Result<(), NodeError> {
    let units = tree.join("etc/systemd/system");
    for (name, text, wanted_by) in UNITS {
        files::write(&units.join(name), text)?;
        files::link(&units.join(format!("{wanted_by}.wants")).join(name), &format!("../{name}"))?;
    }
    for name in UNWANTED {
        files::link(&units.join(name), "/dev/null")?;
    }
    files::link(&units.join("default.target"), "/lib/systemd/system/multi-user.target")?;
    files::write_program(&tree.join("usr/local/lib/node/prepare"), include_str!("prepare.sh"))?;
    let mut import = format!("#!/bin/sh\nset -eu\nctr -n k8s.io images import {PAUSE_ARCHIVE}\n");
    for reference in OLDER_PAUSE_REFERENCES {
        import.push_str(&format!("ctr -n k8s.io images tag --force registry.k8s.io/pause:3.10 {reference}\n"));
    }
    files::write_program(&tree.join("usr/local/lib/node/import-pause-image"), import)?;
    for program in ["kubelet", "kube-proxy", "kubectl"] {
        files::link(&tree.join("usr/local/bin").join(program), "hyperkube")?;
    }
    Ok(())
}

fn write_kubernetes(node: &Node, layout: &Layout, server: &str, tree: &Path) -> Result<(), NodeError> {
    let authority = Authority::at(layout.pki());
    let folder = tree.join("etc/kubernetes");
    files::write(&folder.join("pki/ca.crt"), files::read(&authority.certificate())?)?;
    authority.server(node.name(), &[node.address()], &[node.name()])?.write(&folder.join("pki"), "kubelet")?;
    let user = format!("system:node:{}", node.name());
    for (file, subject) in [
        ("kubelet.kubeconfig", Subject { user: &user, group: Some("system:nodes") }),
        ("kube-proxy.kubeconfig", Subject { user: "system:kube-proxy", group: None }),
    ] {
        files::write_secret(&folder.join(file), authority.kubeconfig("cluster", server, &subject)?)?;
    }
    files::write(
        &folder.join("kubelet.yaml"),
        format!("{}clusterDNS: [{CLUSTER_DNS}]\n", include_str!("kubelet.yaml")),
    )?;
    let kubelet = format!(
        "--hostname-override={} --node-ip={} --node-labels=containerd.io/version={}",
        node.name(),
        node.address(),
        node.containerd_version()
    );
    files::write(&folder.join("kubelet.env"), format!("ARGUMENTS={kubelet}\n"))?;
    // Connection tracking's limits are the machine's, not the node's: zero leaves them alone.
    let proxy = format!(
        "--hostname-override={} --cluster-cidr={} --proxy-mode=iptables --conntrack-max-per-core=0 \
         --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --oom-score-adj=0",
        node.name(),
        node.network.all_pods()
    );
    Ok(files::write(&folder.join("kube-proxy.env"), format!("ARGUMENTS={proxy}\n"))?)
}
