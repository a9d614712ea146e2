//! A cluster does what a cluster does: one cluster for all of these tests, on which each leaves
//! nothing of its own.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::process::{ExitCode, Output};
use std::time::Duration;

use kwasm_test_cluster::{Cluster, ContainerdVersion, Node, Session};
use libtest_mimic::{Arguments, Failed, Trial};
use support::workload::{client, pod, server};
use support::{eventually, name};

const LIMIT: Duration = Duration::from_secs(60);
type Test = fn(&Cluster) -> Result<(), Failed>;

const TESTS: [(&str, Test); 9] = [
    ("every_node_is_labelled_with_its_containerd_and_runs_it", every_node_runs_its_containerd),
    ("pods_reach_each_other_services_and_the_api_server_from_every_node", pods_reach_everything),
    ("logs_exec_and_port_forward_work_on_every_node", logs_exec_and_port_forward),
    ("a_pod_survives_a_restart_of_containerd", a_pod_survives_a_restart_of_containerd),
    ("a_command_on_a_node_keeps_its_exit_code_and_its_cgroup", a_command_on_a_node),
    ("a_file_edited_from_outside_is_seen_on_the_node", a_file_edited_from_outside),
    ("a_node_can_be_added_and_removed", a_node_can_be_added_and_removed),
    ("helm_reaches_the_cluster", helm_reaches_the_cluster),
    ("what_explains_a_failure_is_collected", what_explains_a_failure_is_collected),
];

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    if arguments.list {
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    }
    let session = Session::to_stderr();
    session.stop_on_signals().expect("signal handlers");
    let name = name("whole");
    let cluster = Cluster::up(&name, &ContainerdVersion::ALL, &session).expect("a cluster");
    let trial = |(name, test): (&str, Test)| {
        let cluster = cluster.clone();
        Trial::test(name, move || test(&cluster))
    };
    let conclusion = libtest_mimic::run(&arguments, TESTS.into_iter().map(trial).collect());
    if conclusion.has_failed() {
        let folder = std::env::temp_dir().join(format!("kwasm-{name}"));
        let collected = cluster.collect(&folder).expect("logs");
        eprintln!("logs are in {}", collected.display());
    }
    Cluster::down(&name, &session.uninterrupted()).expect("down");
    conclusion.exit_code()
}

fn text(output: Output) -> Result<String, Failed> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

fn kubectl(cluster: &Cluster, words: &[&str]) -> Result<String, Failed> {
    text(cluster.kubectl(words)?)
}

/// Makes objects by way of a file in the cluster's folder.
fn apply(cluster: &Cluster, objects: &[serde_json::Value]) -> Result<(), Failed> {
    let file = cluster.folder().join("objects.json");
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string())?;
    kubectl(cluster, &["apply", "-f", &file.display().to_string()]).map(drop)
}

/// Makes a pod on each node that answers with the node's name, and waits until they run.
fn servers(cluster: &Cluster) -> Result<Vec<(Node, String)>, Failed> {
    let nodes = cluster.nodes()?;
    let pods: Vec<_> =
        nodes.iter().map(|node| pod(&format!("on-{}", node.name()), node.name(), &server(node.name()))).collect();
    apply(cluster, &pods)?;
    for node in &nodes {
        let name = format!("on-{}", node.name());
        eventually(&format!("pod {name} to listen"), LIMIT, || {
            kubectl(cluster, &["logs", &name]).ok().filter(|said| said.contains("listening"))
        });
    }
    Ok(nodes.into_iter().map(|node| (node.clone(), format!("on-{}", node.name()))).collect())
}

fn remove_pods(cluster: &Cluster) -> Result<(), Failed> {
    kubectl(cluster, &["delete", "pods,services", "-l", "group=all", "--wait"]).map(drop)
}

fn exec(cluster: &Cluster, pod: &str, command: &[String]) -> Result<String, Failed> {
    let mut words = vec!["exec", pod, "--"];
    words.extend(command.iter().map(String::as_str));
    kubectl(cluster, &words)
}

fn every_node_runs_its_containerd(cluster: &Cluster) -> Result<(), Failed> {
    for node in cluster.nodes()? {
        let path = "jsonpath={.metadata.labels.containerd\\.io/version} {.status.nodeInfo.containerRuntimeVersion}";
        let said = kubectl(cluster, &["get", "node", node.name(), "-o", path])?;
        let version = node.containerd_version();
        assert!(said.starts_with(&format!("{version} containerd://{version}.")), "{}: {said}", node.name());
        assert_eq!(node.run(&["systemctl", "is-system-running"])?.trim(), "running");
    }
    Ok(())
}

fn pods_reach_everything(cluster: &Cluster) -> Result<(), Failed> {
    let pods = servers(cluster)?;
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "all", "labels": {"group": "all"}},
        "spec": {"selector": {"group": "all"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    apply(cluster, &[service])?;
    let service = kubectl(cluster, &["get", "service", "all", "-o", "jsonpath={.spec.clusterIP}"])?;
    for (_, from) in &pods {
        for (node, to) in &pods {
            let address = kubectl(cluster, &["get", "pod", to, "-o", "jsonpath={.status.podIP}"])?;
            assert_eq!(exec(cluster, from, &client(&address, 8080))?.trim(), node.name(), "from {from}");
        }
        eventually("the Service to answer", LIMIT, || {
            exec(cluster, from, &client(&service, 80)).ok().filter(|said| said.contains("containerd"))
        });
        let connect = ["timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/10.96.0.1/443"].map(str::to_owned);
        exec(cluster, from, &connect)?;
    }
    remove_pods(cluster)
}

fn logs_exec_and_port_forward(cluster: &Cluster) -> Result<(), Failed> {
    for (node, pod) in servers(cluster)? {
        assert_eq!(kubectl(cluster, &["logs", &pod])?, "listening\n");
        assert_eq!(exec(cluster, &pod, &["hostname".to_owned()])?.trim(), pod);
        let mut forward = support::cluster(cluster.name(), &["kubectl"])
            .args(["port-forward", &format!("pod/{pod}"), ":8080"])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let answer = forwarded(&mut forward);
        forward.kill()?;
        forward.wait()?;
        assert_eq!(answer?.trim(), node.name());
    }
    remove_pods(cluster)
}

/// What answers at the port that `kubectl port-forward` chose.
fn forwarded(forward: &mut std::process::Child) -> Result<String, Failed> {
    use std::io::{BufRead as _, BufReader, Read as _};
    let mut line = String::new();
    // Open until the end: kubectl also tells of each connection.
    let mut output = BufReader::new(forward.stdout.take().ok_or("no output")?);
    output.read_line(&mut line)?;
    let address = line
        .split(" -> ")
        .next()
        .and_then(|text| text.strip_prefix("Forwarding from "))
        .ok_or(format!("kubectl printed `{line}`"))?;
    let mut answer = String::new();
    std::net::TcpStream::connect(address)?.read_to_string(&mut answer)?;
    Ok(answer)
}

fn a_pod_survives_a_restart_of_containerd(cluster: &Cluster) -> Result<(), Failed> {
    for (node, pod) in servers(cluster)? {
        let process = || node.run(&["pgrep", "-f", "IO::Socket::INET"]);
        let before = process()?;
        node.run(&["systemctl", "restart", "containerd"])?;
        eventually("containerd to answer again", LIMIT, || node.run(&["ctr", "version"]).ok());
        assert_eq!(process()?, before, "on {}", node.name());
        eventually("exec to work again", LIMIT, || exec(cluster, &pod, &["true".to_owned()]).ok());
    }
    remove_pods(cluster)
}

fn a_command_on_a_node(cluster: &Cluster) -> Result<(), Failed> {
    for node in cluster.nodes()? {
        assert_eq!(node.exec(&["sh", "-c", "exit 7"])?.status.code(), Some(7));
        assert_eq!(node.run(&["hostname"])?.trim(), node.name());
        // Seen from inside, it is in the same cgroups as the node's systemd.
        let cgroups = "diff /proc/self/cgroup /proc/1/cgroup";
        node.run(&["sh", "-c", cgroups])?;
        let error = node.run(&["sh", "-c", "echo why >&2; false"]).expect_err("it fails");
        assert!(error.to_string().contains("why"), "{error}");
    }
    Ok(())
}

fn a_file_edited_from_outside(cluster: &Cluster) -> Result<(), Failed> {
    for node in cluster.nodes()? {
        let file = node.root().join("etc/edited");
        std::fs::write(&file, "outside")?;
        assert_eq!(node.run(&["cat", "/etc/edited"])?, "outside");
        node.run(&["sh", "-c", "echo inside > /etc/edited"])?;
        assert_eq!(std::fs::read_to_string(&file)?, "inside\n");
        std::fs::remove_file(file)?;
    }
    Ok(())
}

fn a_node_can_be_added_and_removed(cluster: &Cluster) -> Result<(), Failed> {
    let before = cluster.nodes()?.len();
    let node = cluster.add_node(ContainerdVersion::V2_1)?;
    assert!(node.name().ends_with("-containerd-2-1-n2"), "{}", node.name());
    pods_reach_everything(cluster)?;
    cluster.remove_node(&node)?;
    assert!(!node.is_running() && !node.root().exists());
    assert_eq!(cluster.nodes()?.len(), before);
    assert!(!kubectl(cluster, &["get", "nodes", "-o", "name"])?.contains(node.name()));
    Ok(())
}

fn helm_reaches_the_cluster(cluster: &Cluster) -> Result<(), Failed> {
    assert!(text(cluster.helm(&["list", "-A"])?)?.contains("NAMESPACE"));
    Ok(())
}

fn what_explains_a_failure_is_collected(cluster: &Cluster) -> Result<(), Failed> {
    let folder = cluster.folder().join("collected");
    cluster.collect(&folder)?;
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_default();
    for node in cluster.nodes()? {
        let file = |name: &str| format!("nodes/{}/{name}", node.name());
        assert!(read(&file("containerd.log")).contains("containerd successfully booted"));
        assert!(read(&file("kubelet.log")).contains("Started kubelet"));
        assert!(read(&file("journal.log")).contains("systemd"));
        assert!(read(&file("config.toml")).contains("version ="));
    }
    for program in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        assert!(!read(&format!("control-plane/{program}.log")).is_empty(), "{program}");
    }
    assert!(read("control-plane/audit.log").contains("audit.k8s.io"));
    assert!(read("objects/events.yaml").contains("kind: Event"));
    assert!(read("objects/nodes.yaml").contains("kind: Node"));
    Ok(())
}
