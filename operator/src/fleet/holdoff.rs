//! Objects that could not be written wait, each by itself and longer each time: nobody else waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// After the first failure, doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What an action writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The metadata of a WasmRuntime.
    Runtime(String),
    /// Its status.
    RuntimeStatus(String),
    /// A `WasmNode`.
    WasmNode(String),
    /// The labels of a Node.
    Node(String),
    /// A RuntimeClass.
    Class(String),
}

/// Who waits, and until when.
#[derive(Debug, Default)]
pub(crate) struct Holdoff {
    waits: BTreeMap<Target, Wait>,
}

#[derive(Debug)]
struct Wait {
    /// How long it waited, or will have.
    lasts: Duration,
    until: Instant,
}

impl Holdoff {
    /// Whether an object may be written.
    pub(crate) fn allows(&self, target: &Target, now: Instant) -> bool {
        self.waits.get(target).is_none_or(|wait| wait.until <= now)
    }

    /// The nodes whose `WasmNode` may not be written.
    pub(crate) fn nodes(&self, now: Instant) -> BTreeSet<String> {
        let waiting = self.waits.iter().filter(|(_, wait)| wait.until > now);
        waiting
            .filter_map(|(target, _)| if let Target::WasmNode(name) = target { Some(name.clone()) } else { None })
            .collect()
    }

    /// An object was written.
    pub(crate) fn succeeded(&mut self, target: &Target) {
        self.waits.remove(target);
    }

    /// An object could not be written.
    pub(crate) fn failed(&mut self, target: Target, now: Instant) {
        let lasts = self.waits.get(&target).map_or(FIRST, |wait| (wait.lasts * 2).min(LONGEST));
        self.waits.insert(target, Wait { lasts, until: now + lasts });
    }

    /// The time until somebody may be written again. Whoever was not written for long after that no longer needs it.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        self.waits.retain(|_, wait| now < wait.until + LONGEST);
        self.waits
            .values()
            .filter_map(|wait| wait.until.checked_duration_since(now))
            .filter(|rest| !rest.is_zero())
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Target {
        Target::WasmNode(name.to_owned())
    }

    #[test]
    fn only_what_failed_waits() {
        let (mut holdoff, now) = (Holdoff::default(), Instant::now());
        holdoff.failed(node("a"), now);
        assert!(!holdoff.allows(&node("a"), now));
        assert!(holdoff.allows(&node("b"), now) && holdoff.allows(&Target::Node("a".to_owned()), now));
        assert_eq!(holdoff.nodes(now), ["a".to_owned()].into());
    }

    #[test]
    fn each_failure_waits_twice_as_long_up_to_a_minute() {
        let (mut holdoff, mut now) = (Holdoff::default(), Instant::now());
        let waits = [(); 8].map(|()| {
            holdoff.failed(node("a"), now);
            let wait = holdoff.next(now).unwrap();
            now += wait;
            assert!(holdoff.allows(&node("a"), now));
            wait.as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn what_was_written_starts_anew() {
        let (mut holdoff, now) = (Holdoff::default(), Instant::now());
        holdoff.failed(node("a"), now);
        holdoff.succeeded(&node("a"));
        holdoff.failed(node("a"), now);
        assert_eq!(holdoff.next(now), Some(FIRST));
    }

    #[test]
    fn a_wait_that_is_over_asks_for_no_decision() {
        let (mut holdoff, now) = (Holdoff::default(), Instant::now());
        holdoff.failed(node("a"), now);
        assert_eq!(holdoff.next(now + FIRST), None);
    }
}
