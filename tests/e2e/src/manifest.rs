//! The objects that tests make.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The image of the demo app in `tests/guests`.
pub const DEMO_IMAGE: &str = "wasi-demo-app";

/// A pod with one wasm container, pinned to a node.
#[derive(Clone, Debug)]
pub struct WasmPod {
    name: String,
    node: String,
    image: String,
    runtime_class: Option<String>,
    restart_policy: &'static str,
    grace_seconds: u32,
    container: serde_json::Map<String, Value>,
    volumes: Vec<Value>,
}

impl WasmPod {
    /// A pod that runs the demo app once on a node.
    #[must_use]
    pub fn new(name: &str, node: &str) -> Self {
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            image: DEMO_IMAGE.to_owned(),
            runtime_class: Some("wasmtime".to_owned()),
            restart_policy: "Never",
            grace_seconds: 30,
            container: serde_json::Map::new(),
            volumes: Vec::new(),
        }
    }

    /// The demo app's arguments.
    #[must_use]
    pub fn demo(self, arguments: &[&str]) -> Self {
        let mut command = vec!["/wasi-demo-app.wasm"];
        command.extend(arguments);
        self.set("command", json!(command))
    }

    /// Another image with its command.
    #[must_use]
    pub fn image(mut self, image: &str, command: &[&str]) -> Self {
        image.clone_into(&mut self.image);
        self.set("command", json!(command))
    }

    /// Another RuntimeClass, or none.
    #[must_use]
    pub fn runtime_class(mut self, name: Option<&str>) -> Self {
        self.runtime_class = name.map(str::to_owned);
        self
    }

    /// `Never`, `OnFailure` or `Always`.
    #[must_use]
    pub fn restart_policy(mut self, policy: &'static str) -> Self {
        self.restart_policy = policy;
        self
    }

    /// How long its programs have to end, once told; 30 s otherwise, as in Kubernetes.
    #[must_use]
    pub fn grace_seconds(mut self, seconds: u32) -> Self {
        self.grace_seconds = seconds;
        self
    }

    /// A field of the container.
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.container.insert(field.to_owned(), value);
        self
    }

    /// A volume of the pod.
    #[must_use]
    pub fn volume(mut self, volume: Value) -> Self {
        self.volumes.push(volume);
        self
    }

    /// The pod.
    ///
    /// # Errors
    /// If a field does not fit.
    pub fn build(self) -> Result<Pod> {
        let mut container = self.container;
        container.insert("name".to_owned(), json!("main"));
        container.insert("image".to_owned(), json!(self.image));
        container.insert("imagePullPolicy".to_owned(), json!("Never"));
        Ok(serde_json::from_value(json!({
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {
                "runtimeClassName": self.runtime_class,
                "nodeSelector": {"kubernetes.io/hostname": self.node},
                "restartPolicy": self.restart_policy,
                "terminationGracePeriodSeconds": self.grace_seconds,
                "containers": [container],
                "volumes": self.volumes,
            },
        }))?)
    }
}

/// A Deployment of the demo app, which runs until it is ended.
///
/// # Errors
/// If a field does not fit.
pub fn deployment(name: &str, replicas: i32) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "runtimeClassName": "wasmtime",
                    "containers": [{"name": "wasm-hello", "image": DEMO_IMAGE, "imagePullPolicy": "Never"}],
                },
            },
        },
    }))?)
}

/// The same on one node.
///
/// # Errors
/// If a field does not fit.
pub fn deployment_on(node: &str, name: &str) -> Result<Deployment> {
    let mut deployment = deployment(name, 1)?;
    if let Some(pod) = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
        pod.node_selector = Some([("kubernetes.io/hostname".to_owned(), node.to_owned())].into());
    }
    Ok(deployment)
}

/// How many pods of a Deployment are available.
#[must_use]
pub fn available(deployment: &Deployment) -> i32 {
    deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}
