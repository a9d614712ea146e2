//! What Prometheus reads. No label names an object: the number of series does not grow with the cluster.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds: a decision without a write takes well under a millisecond per hundred nodes.
const BUCKETS: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Every metric.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    errors: Family<ByController, Counter>,
    duration: Family<ByController, Histogram>,
    nodes: Family<ByProgress, Gauge>,
    /// Writes to the API server.
    pub(crate) writes: Counter<u64, AtomicU64>,
    /// 1 while this process is the one that acts.
    pub(crate) leading: Gauge,
}

/// Who worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Controller {
    Fleet,
    Node,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByController {
    controller: Controller,
}

/// How a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Progress {
    Settled,
    Changing,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProgress {
    progress: Progress,
}

/// Records how long something took when it is dropped.
pub(crate) struct Timer {
    histogram: Histogram,
    started: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("kwasm");
        let errors = Family::default();
        registry.register("reconcile_errors", "Reconciliations that failed", errors.clone());
        let duration =
            Family::<ByController, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS.iter().copied()));
        registry.register("reconcile_duration_seconds", "How long reconciliations took", duration.clone());
        let nodes = Family::default();
        registry.register("nodes", "Nodes by how they are doing", nodes.clone());
        let writes = Counter::default();
        registry.register("api_writes", "Writes to the API server", writes.clone());
        let leading = Gauge::default();
        registry.register("leader", "1 while this process is the one that acts", leading.clone());
        Self { registry, errors, duration, nodes, writes, leading }
    }

    /// Starts the clock of one reconciliation.
    pub(crate) fn start(&self, controller: Controller) -> Timer {
        let histogram = self.duration.get_or_create(&ByController { controller }).clone();
        Timer { histogram, started: Instant::now() }
    }

    pub(crate) fn failed(&self, controller: Controller) {
        self.errors.get_or_create(&ByController { controller }).inc();
    }

    /// Counts the nodes anew.
    pub(crate) fn count(&self, nodes: impl Iterator<Item = Progress>) {
        let mut counts = [(Progress::Settled, 0), (Progress::Changing, 0), (Progress::Failed, 0)];
        for progress in nodes {
            counts.iter_mut().filter(|(kind, _)| *kind == progress).for_each(|(_, count)| *count += 1);
        }
        for (progress, count) in counts {
            self.nodes.get_or_create(&ByProgress { progress }).set(count);
        }
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
