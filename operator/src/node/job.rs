//! The Job that changes one node: the only thing of ours that is privileged, and it holds no credentials.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostPathVolumeSource, LocalObjectReference, PodSpec, PodTemplateSpec, SecretVolumeSource,
    SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kwasm_api::Order;
use kwasm_api::names::{FIELD_MANAGER, JOB, JOB_NODE, JOB_ORDER, MANAGED_BY};
use kwasm_api::order::ORDER_ENV;
use kwasm_api::wasm_node::WasmNode;
use sha2::{Digest, Sha256};

/// Name of the container, as in KWasm 0.2.
pub(crate) const CONTAINER: &str = "kwasm-provision";

/// Where the host's root is mounted, as in KWasm 0.2; custom installers know it by `NODE_ROOT`.
const NODE_ROOT: &str = "/mnt/node-root";

/// The kubelet's default `terminationMessagePath`.
const REPORT_PATH: &str = "/dev/termination-log";

/// Where the installer looks for pull secrets: a folder for each.
const PULL_SECRETS: &str = "/var/run/secrets/kwasm/pull";

/// Seconds. An installer takes seconds; what may take long is pulling its image, fetching runtimes (300 s), a restart that fails
/// and another one back (290 s each).
const DEADLINE: i64 = 1200;

/// The longest name of a Job: its pods carry it as a label's value.
const NAME_MAX: usize = 63;

/// What all installer Jobs have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobSettings {
    pub(crate) namespace: String,
    /// Empty: none.
    pub(crate) priority_class: String,
    /// For the kubelet, which pulls the installer, and for the installer, which pulls runtimes.
    pub(crate) image_pull_secrets: Vec<String>,
    pub(crate) proxies: Proxies,
}

/// How the installer reaches web servers and registries; empty: directly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) http: String,
    pub(crate) https: String,
    pub(crate) none: String,
}

/// The name of the Job for a `WasmNode` as it is now: another spec, another attempt and another object of the same
/// name have other generations or UIDs, and therefore other names.
pub(crate) fn name(wasm_node: &WasmNode) -> String {
    let node = wasm_node.metadata.name.as_deref().unwrap_or_default();
    let uid = wasm_node.metadata.uid.as_deref().unwrap_or_default();
    let generation = wasm_node.metadata.generation.unwrap_or_default();
    let order = order(wasm_node).digest();
    let digest = Sha256::digest(format!("{node}\n{uid}\n{generation}\n{order}"));
    let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let suffix = format!("-provision-kwasm-{hash}");
    let kept: String = node.replace('.', "-").chars().take(NAME_MAX - suffix.len()).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

/// What the Job of a `WasmNode` is told.
pub(crate) fn order(wasm_node: &WasmNode) -> Order {
    Order::new(wasm_node.metadata.name.clone().unwrap_or_default(), wasm_node.spec.runtimes.clone())
}

/// The Job itself.
pub(crate) fn build(wasm_node: &WasmNode, settings: &JobSettings) -> Job {
    let node = wasm_node.metadata.name.clone().unwrap_or_default();
    let order = order(wasm_node);
    let labels = [(JOB, "true"), (MANAGED_BY, FIELD_MANAGER)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let annotations = [(JOB_NODE, node), (JOB_ORDER, order.digest())].map(|(k, v)| (k.to_owned(), v));
    let metadata = ObjectMeta {
        labels: Some(labels.clone().into()),
        annotations: Some(annotations.clone().into()),
        ..ObjectMeta::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name(wasm_node)),
            namespace: Some(settings.namespace.clone()),
            owner_references: Some(vec![owner(wasm_node)]),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE),
            backoff_limit: Some(0),
            template: PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(wasm_node, &order, settings)) },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// The garbage collector takes the Job with its `WasmNode`, which goes with its Node.
fn owner(wasm_node: &WasmNode) -> OwnerReference {
    OwnerReference {
        api_version: WasmNode::api_version(&()).into_owned(),
        kind: WasmNode::kind(&()).into_owned(),
        name: wasm_node.metadata.name.clone().unwrap_or_default(),
        uid: wasm_node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn pod(wasm_node: &WasmNode, order: &Order, settings: &JobSettings) -> PodSpec {
    let pull_secrets = settings.image_pull_secrets.iter();
    PodSpec {
        // The node is named, so that no scheduler, taint or cordon is in the way.
        node_name: wasm_node.metadata.name.clone(),
        tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]),
        priority_class_name: Some(settings.priority_class.clone()).filter(|name| !name.is_empty()),
        host_pid: Some(true),
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: Some(pull_secrets.map(|name| LocalObjectReference { name: name.clone() }).collect()),
        containers: vec![container(wasm_node, order, settings)],
        volumes: Some(volumes(settings)),
        ..PodSpec::default()
    }
}

fn volumes(settings: &JobSettings) -> Vec<Volume> {
    let root = Volume {
        name: "root-mount".to_owned(),
        host_path: Some(HostPathVolumeSource { path: "/".to_owned(), type_: None }),
        ..Volume::default()
    };
    let secrets = settings.image_pull_secrets.iter().enumerate().map(|(number, name)| Volume {
        name: pull_secret(number),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            // The kubelet does without a missing one as well, and most Orders need none.
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    [root].into_iter().chain(secrets).collect()
}

fn volume_mounts(settings: &JobSettings) -> Vec<VolumeMount> {
    let root = VolumeMount {
        name: "root-mount".to_owned(),
        mount_path: NODE_ROOT.to_owned(),
        // A file system that the host mounts meanwhile is seen too.
        mount_propagation: Some("HostToContainer".to_owned()),
        ..VolumeMount::default()
    };
    let secrets = settings.image_pull_secrets.iter().enumerate().map(|(number, name)| VolumeMount {
        name: pull_secret(number),
        mount_path: format!("{PULL_SECRETS}/{name}"),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    [root].into_iter().chain(secrets).collect()
}

/// The name of a volume: a Secret's own may be too long for one.
fn pull_secret(number: usize) -> String {
    format!("pull-secret-{number}")
}

fn container(wasm_node: &WasmNode, order: &Order, settings: &JobSettings) -> Container {
    let node = wasm_node.metadata.name.clone().unwrap_or_default();
    let env = [
        ("NODE_ROOT", NODE_ROOT.to_owned()),
        ("NODE_NAME", node),
        ("KWASM_REPORT", REPORT_PATH.to_owned()),
        // Kubernetes replaces $(NAME) in values, and reads $$ as one $.
        (ORDER_ENV, order.to_json().replace('$', "$$")),
    ];
    let Proxies { http, https, none } = settings.proxies.clone();
    let proxies = [("HTTP_PROXY", http), ("HTTPS_PROXY", https), ("NO_PROXY", none)];
    let env = env.into_iter().chain(proxies.into_iter().filter(|(_, value)| !value.is_empty()));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(wasm_node.spec.installer.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        env: Some(
            env.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), value_from: None }).collect(),
        ),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        termination_message_path: Some(REPORT_PATH.to_owned()),
        // A custom installer writes no Report: then the end of its log says why it failed.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volume_mounts(settings)),
        ..Container::default()
    }
}
