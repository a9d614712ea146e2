//! Which runtimes each node should have and who may change now: one decision over all nodes, observe → plan → apply.

mod apply;
mod observe;
mod plan;
mod rollout;
mod runtime_class;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use observe::Policy;

use crate::metrics::{Controller, Metrics};
use crate::world::World;

/// Changes that come within this time are one decision.
const GATHER: Duration = Duration::from_millis(50);

/// After an error, doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What a decision needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) policy: Policy,
    /// Something changed.
    pub(crate) trigger: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a decision was not carried out; it is made again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Some writes failed.
    #[error("{failures} of {total} writes failed, the last: {what}: {source}")]
    Write {
        /// How many failed.
        failures: usize,
        /// How many were tried.
        total: usize,
        /// The last that failed.
        what: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
}

/// Decides whenever something changed, until the process ends.
pub(crate) async fn run(context: Context) {
    let mut wait = FIRST;
    loop {
        let result = reconcile(&context).await;
        let pause = match result {
            Ok(again) => {
                wait = FIRST;
                again
            }
            Err(error) => {
                context.metrics.failed(Controller::Fleet);
                warn!(%error, "the fleet is decided again in {wait:?}");
                let pause = wait;
                wait = (wait * 2).min(LONGEST);
                sleep(pause).await;
                continue;
            }
        };
        match pause {
            // Too early or too late by a moment costs one decision without a write.
            Some(pause) => drop(timeout(pause, context.trigger.notified()).await),
            None => context.trigger.notified().await,
        }
        sleep(GATHER).await;
    }
}

/// One decision; returns after which time the next is due although nothing changed.
async fn reconcile(context: &Context) -> Result<Option<Duration>, Error> {
    let _timer = context.metrics.start(Controller::Fleet);
    let now = Time(Timestamp::now());
    let plan = {
        let snapshot = observe::Snapshot::of(&context.world);
        let fleet = observe::Fleet::of(&snapshot, &context.policy);
        context.metrics.count(fleet.members.iter().map(|member| member.progress.metric()));
        plan::plan(&fleet, &context.policy, &now)
    };
    if !plan.actions.is_empty() {
        apply::apply(context, plan.actions).await?;
    }
    let wait = plan.again_at.map(|at| Duration::try_from(at.0.duration_since(now.0)).unwrap_or_default());
    Ok(wait)
}
