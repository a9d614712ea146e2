//! `kwasm-operator uninstall`: takes all runtimes off all nodes and waits until they are gone. `helm uninstall` runs it
//! while the operator still lives; without it nobody would be left to finish the WasmRuntimes' removal, whoever made
//! them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{DeleteParams, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use kwasm_api::wasm_runtime::WasmRuntime;
use tokio::time::{sleep, timeout};
use tracing::info;

/// Between looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Deletes every WasmRuntime and waits until no node has them.
///
/// # Errors
/// If the API server refuses, or if some are left after `patience`.
pub(crate) async fn run(patience: Duration) -> Result<()> {
    let client = Client::try_default().await.context("find the API server")?;
    let runtimes = Api::<WasmRuntime>::all(client);
    runtimes
        .delete_collection(&DeleteParams::background(), &ListParams::default())
        .await
        .context("delete the WasmRuntimes")?;
    let mut left = Vec::new();
    if timeout(patience, wait(&runtimes, &mut left)).await.is_err() {
        bail!(
            "still on nodes after {patience:?}: {}; `kubectl describe wasmruntime` says where. To give up on a node, \
             delete its WasmNode",
            left.join(", ")
        );
    }
    Ok(())
}

async fn wait(runtimes: &Api<WasmRuntime>, left: &mut Vec<String>) {
    loop {
        // An API server that does not answer now may answer later.
        if let Ok(list) = runtimes.list_metadata(&ListParams::default()).await {
            let names: Vec<_> = list.items.iter().map(PartialObjectMeta::name_any).collect();
            if names.is_empty() {
                return;
            }
            if names != *left {
                info!("waits until no node has {}", names.join(", "));
                *left = names;
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}
