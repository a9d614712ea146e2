//! Which runtimes each node should have and who may change now: one decision over all nodes, observe → plan → apply.

mod apply;
mod holdoff;
mod observe;
mod plan;
mod rollout;
mod runtime_class;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

pub(crate) use observe::Policy;

use self::holdoff::Holdoff;
use crate::metrics::{Controller, Metrics};
use crate::world::World;

/// Changes that come within this time are one decision.
const GATHER: Duration = Duration::from_millis(50);

/// What a decision needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) policy: Policy,
    /// Something changed.
    pub(crate) trigger: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Decides whenever something changed, until the process ends.
pub(crate) async fn run(context: Context) {
    let mut holdoff = Holdoff::default();
    loop {
        match reconcile(&context, &mut holdoff).await {
            // Too early or too late by a moment costs one decision without a write.
            Some(pause) => drop(timeout(pause, context.trigger.notified()).await),
            None => context.trigger.notified().await,
        }
        sleep(GATHER).await;
    }
}

/// One decision; returns after which time the next is due although nothing changed.
async fn reconcile(context: &Context, holdoff: &mut Holdoff) -> Option<Duration> {
    let _timer = context.metrics.start(Controller::Fleet);
    let (now, started) = (Time(Timestamp::now()), Instant::now());
    let mut plan = {
        let snapshot = observe::Snapshot::of(&context.world);
        let fleet = observe::Fleet::of(&snapshot, &context.policy, holdoff.nodes(started));
        context.metrics.count(fleet.members.iter().map(|member| member.progress.metric()));
        plan::plan(&fleet, &context.policy, &now)
    };
    plan.actions.retain(|action| holdoff.allows(&action.target(), started));
    if !plan.actions.is_empty() {
        apply::apply(context, plan.actions, holdoff).await;
    }
    let wait = plan.again_at.map(|at| Duration::try_from(at.0.duration_since(now.0)).unwrap_or_default());
    wait.into_iter().chain(holdoff.next(Instant::now())).min()
}
