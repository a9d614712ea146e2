//! The parts put together: health server, Lease, watches, controllers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use kwasm_api::names::FIELD_MANAGER;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::info;

use crate::leader::Claim;
use crate::metrics::Metrics;
use crate::server::{Health, serve};
use crate::settings::Settings;
use crate::world::{Listeners, World};
use crate::{fleet, node};

/// Runs until SIGTERM or SIGINT, or until the Lease is lost.
///
/// # Errors
/// If there is no API server to talk to, the address is taken, or the Lease was lost.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let client =
        Client::try_default().await.context("find the API server: neither a kubeconfig nor a service account")?;
    let health = Health { metrics: Arc::new(Metrics::new()), ready: Arc::new(AtomicBool::new(false)) };
    let mut claim = Claim::new(client.clone(), &settings.controller_namespace, &settings.identity);
    let server = serve(settings.listen_address, health.clone());
    let result = tokio::select! {
        served = server => served.with_context(|| format!("listen on {}", settings.listen_address)),
        led = lead(client, &settings, &health, &mut claim) => led,
        stopped = stop() => stopped,
    };
    // Whatever was under way is found by the next process in the objects.
    claim.release().await;
    result
}

/// Waits for the Lease, then acts while it is held.
async fn lead(client: Client, settings: &Settings, health: &Health, claim: &mut Claim) -> Result<()> {
    claim.acquire(|| health.ready.store(true, Ordering::Relaxed)).await;
    health.metrics.leading.set(1);
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = act(client, settings, &health.metrics, &mut tasks) => bail!("a controller ended"),
        () = claim.keep() => bail!("the Lease was lost: another operator acts now"),
    }
}

async fn act(client: Client, settings: &Settings, metrics: &Arc<Metrics>, tasks: &mut JoinSet<()>) {
    let (nodes, queue) = mpsc::unbounded_channel();
    let trigger = Arc::new(Notify::new());
    let listeners = Listeners { fleet: Arc::clone(&trigger), nodes };
    let world = World::watch(&client, &settings.controller_namespace, &listeners, tasks);
    if !world.filled().await {
        return;
    }
    info!(nodes = world.nodes.len(), "knows the cluster");
    let node_context = node::Context {
        client: client.clone(),
        world: world.clone(),
        jobs: node::JobSettings {
            namespace: settings.controller_namespace.clone(),
            priority_class: settings.installer_priority_class.clone(),
            image_pull_secrets: settings.installer_pull_secrets.clone(),
            proxies: node::Proxies {
                http: settings.installer_http_proxy.clone(),
                https: settings.installer_https_proxy.clone(),
                none: settings.installer_no_proxy.clone(),
            },
        },
        recorder: Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER)),
        metrics: Arc::clone(metrics),
    };
    let policy =
        fleet::Policy { auto_provision: settings.auto_provision_nodes, installer: settings.installer_image.clone() };
    let fleet_context = fleet::Context { client, world, policy, trigger, metrics: Arc::clone(metrics) };
    tokio::select! {
        () = node::run(Arc::new(node_context), queue) => {}
        () = fleet::run(fleet_context) => {}
        _ = tasks.join_next() => {}
    }
}

/// Returns when the process is asked to end.
async fn stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("ends");
    Ok(())
}
