//! One node of the cluster, on which a test runs its pods.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Node as KubeNode, Pod};
use kube::ResourceExt;
use kwasm_api::names;
use kwasm_test_cluster::Node;

use crate::manifest::WasmPod;
use crate::road::{PROVISIONING, Road, read_config};

/// How long a pod may take to reach a state.
pub const POD: Duration = Duration::from_secs(60);

/// One node, on which a test runs its pods.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The cluster around it.
    pub road: &'a Road,
    /// The node.
    pub node: &'a Node,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The exit code that Kubernetes saw.
    pub exit_code: i32,
    /// What the container printed.
    pub logs: String,
}

impl Site<'_> {
    /// A wasm pod on this node; its name is unique among nodes.
    #[must_use]
    pub fn pod(&self, name: &str) -> WasmPod {
        WasmPod::new(&self.named(name), self.node.name())
    }

    /// A name that no other node's tests use.
    #[must_use]
    pub fn named(&self, name: &str) -> String {
        format!("{name}-{}", self.node.name())
    }

    /// Runs a pod to its end, then deletes it.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn run(&self, pod: WasmPod) -> Result<Ending> {
        let kube = &self.road.kube;
        let pods = kube.namespaced::<Pod>();
        let name = kube.create(&pods, &pod.build()?)?.name_any();
        let ended = kube.until(&pods, &name, POD, "to end", |pod| terminated(pod).is_some())?;
        let exit_code = terminated(&ended).ok_or_else(|| anyhow!("{name} has not ended"))?;
        let logs = kube.logs(&name)?;
        kube.delete(&pods, &name, POD)?;
        Ok(Ending { exit_code, logs })
    }

    /// Starts a pod and waits until its container runs; returns the pod's name.
    ///
    /// # Errors
    /// If it does not run in time.
    pub fn start(&self, pod: WasmPod) -> Result<String> {
        let kube = &self.road.kube;
        let pods = kube.namespaced::<Pod>();
        let name = kube.create(&pods, &pod.build()?)?.name_any();
        kube.until(&pods, &name, POD, "to run", is_running)?;
        Ok(name)
    }

    /// Starts a pod whose container cannot start, and returns the message once it holds a text.
    ///
    /// # Errors
    /// If no such message comes in time.
    pub fn refusal(&self, pod: WasmPod, text: &str) -> Result<String> {
        let kube = &self.road.kube;
        let pods = kube.namespaced::<Pod>();
        let name = kube.create(&pods, &pod.build()?)?.name_any();
        let expectation = format!("to be refused with {text:?}");
        let refused = |pod: &Pod| refusal_message(pod).is_some_and(|message| message.contains(text));
        let pod = kube.until(&pods, &name, POD, &expectation, refused)?;
        let message = refusal_message(&pod).context("no message")?;
        kube.delete(&pods, &name, POD)?;
        Ok(message)
    }

    /// Deletes a pod and waits until it is gone.
    ///
    /// # Errors
    /// If it does not go in time.
    pub fn delete(&self, pod: &str) -> Result<()> {
        self.road.kube.delete(&self.road.kube.namespaced::<Pod>(), pod, POD)
    }

    /// Waits until the node has the labels of a verified node.
    ///
    /// # Errors
    /// If it has not in time.
    pub fn until_verified(&self) -> Result<()> {
        let nodes = self.road.kube.all::<KubeNode>();
        let wanted = "to be labelled as verified";
        self.road.kube.until(&nodes, self.node.name(), PROVISIONING, wanted, is_verified).map(drop)
    }

    /// Waits until the node has none of KWasm's labels and no `WasmNode`.
    ///
    /// # Errors
    /// If it has not in time.
    pub fn until_clean(&self) -> Result<()> {
        let kube = &self.road.kube;
        kube.until_gone(&kube.all::<kwasm_api::wasm_node::WasmNode>(), self.node.name(), PROVISIONING)?;
        let nodes = kube.all::<KubeNode>();
        let none = |node: &KubeNode| !node.labels().keys().any(|label| is_ours(label));
        kube.until(&nodes, self.node.name(), PROVISIONING, "to have no label of ours", none).map(drop)
    }

    /// A file of the node, as seen from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.node.root().join(path.trim_start_matches('/'))
    }

    /// The node's containerd configuration.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn containerd_config(&self) -> Result<String> {
        read_config(self.node)
    }

    /// That configuration as it was before KWasm came.
    ///
    /// # Errors
    /// If the node was not there then.
    pub fn original_config(&self) -> Result<&str> {
        self.road.original_config(self.node.name())
    }

    /// How often systemd has started containerd since the node booted.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn containerd_starts(&self) -> Result<usize> {
        let journal = self.node.run(&[
            "journalctl",
            "--boot",
            "--unit=containerd.service",
            "--output=cat",
            "--identifier=systemd",
        ])?;
        Ok(journal.lines().filter(|line| line.starts_with("Started containerd")).count())
    }

    /// The process ids of a pod's tasks, sandbox included, as containerd knows them.
    ///
    /// # Errors
    /// If containerd does not answer.
    pub fn pids(&self, pod: &str) -> Result<Vec<String>> {
        let containers = self.node.run(&["ctr", "-n", "k8s.io", "containers", "list", "-q", &pod_filter(pod)])?;
        let tasks = self.node.run(&["ctr", "-n", "k8s.io", "tasks", "list"])?;
        let mut pids: Vec<String> = tasks
            .lines()
            .filter(|task| task.contains("RUNNING"))
            .filter_map(|task| {
                let mut words = task.split_whitespace();
                let id = words.next()?;
                containers.lines().any(|container| container == id).then(|| words.next().map(str::to_owned))?
            })
            .collect();
        pids.sort();
        Ok(pids)
    }
}

impl Site<'_> {
    /// The id of a pod's container, as containerd knows it.
    ///
    /// # Errors
    /// If it has none, or several.
    pub fn container_id(&self, pod: &str) -> Result<String> {
        let filter = format!("{},labels.\"io.kubernetes.container.name\"==main", pod_filter(pod));
        let ids = self.node.run(&["ctr", "-n", "k8s.io", "containers", "list", "-q", &filter])?;
        match ids.lines().collect::<Vec<_>>().as_slice() {
            [id] => Ok((*id).to_owned()),
            other => bail!("{pod} has not one container but {other:?}"),
        }
    }
}

fn pod_filter(pod: &str) -> String {
    format!("labels.\"io.kubernetes.pod.name\"=={pod}")
}

fn is_ours(label: &str) -> bool {
    label == names::KWASM_PROVISIONED || label.starts_with(names::RUNTIME_LABEL_PREFIX)
}

/// Whether a node has the labels of a verified node.
#[must_use]
pub fn is_verified(node: &KubeNode) -> bool {
    let labels = node.labels();
    labels.contains_key(names::KWASM_PROVISIONED)
        && labels.get(&names::runtime_label("wasmtime")).is_some_and(|value| value == names::RUNTIME_READY)
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn state(pod: &Pod) -> Option<&ContainerState> {
    container(pod)?.state.as_ref()
}

/// How often Kubernetes restarted the pod's container.
#[must_use]
pub fn restarts(pod: &Pod) -> i32 {
    container(pod).map_or(0, |status| status.restart_count)
}

/// Whether the pod's container runs.
#[must_use]
pub fn is_running(pod: &Pod) -> bool {
    state(pod).is_some_and(|state| state.running.is_some())
}

/// Whether the scheduler found no node for the pod.
#[must_use]
pub fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.reason.as_deref() == Some("Unschedulable")))
}

/// The exit code of a container that has ended.
#[must_use]
pub fn terminated(pod: &Pod) -> Option<i32> {
    state(pod)?.terminated.as_ref().map(|ended| ended.exit_code)
}

fn refusal_message(pod: &Pod) -> Option<String> {
    let state = state(pod)?;
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.message.clone());
    waiting.or_else(|| state.terminated.as_ref()?.message.clone())
}
