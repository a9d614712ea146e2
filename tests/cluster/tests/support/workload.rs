//! Pods that need no image of their own: the pause image, with the node's `/usr` mounted.

use serde_json::{Value, json};

/// A pod that runs `script` with the shell of node `node`; perl is there too.
pub(crate) fn pod(name: &str, node: &str, script: &str) -> Value {
    let mounts = [
        ("usr", "/usr", "/usr"),
        ("bin", "/usr/bin", "/bin"),
        ("lib", "/usr/lib", "/lib"),
        ("lib64", "/usr/lib64", "/lib64"),
    ];
    let volumes: Vec<_> =
        mounts.iter().map(|(name, path, _)| json!({"name": name, "hostPath": {"path": path}})).collect();
    let mounts: Vec<_> =
        mounts.iter().map(|(name, _, path)| json!({"name": name, "mountPath": path, "readOnly": true})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "group": "all"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 0},
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}

/// A script that answers every connection to port 8080 with this line.
pub(crate) fn server(line: &str) -> String {
    format!(
        "echo listening; exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, \
         ReuseAddr => 1) or die; while ($c = $s->accept) {{ print $c \"{line}\\n\"; close $c }}'"
    )
}

/// A command that prints what is answered at an address and port.
pub(crate) fn client(address: &str, port: u16) -> Vec<String> {
    let script = format!("exec 3<>/dev/tcp/{address}/{port} && head -n 1 <&3");
    ["timeout", "5", "bash", "-c", &script].map(str::to_owned).into()
}
