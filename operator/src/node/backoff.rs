//! How long a failed node waits before it is tried again.

use std::time::Duration;

/// Before the second attempt: a container runtime that restarted has settled by then.
const FIRST: Duration = Duration::from_secs(10);

/// A broken node is tried about six times an hour.
const LONGEST: Duration = Duration::from_secs(600);

/// A node whose pods must go first is asked so often; asking changes nothing on it.
const LONGEST_IN_USE: Duration = Duration::from_secs(30);

/// The wait after the `attempt`th attempt (from 1) failed.
pub(crate) fn after(attempt: i32) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(16);
    (FIRST * 2_u32.pow(doublings)).min(LONGEST)
}

/// The wait after the `attempt`th attempt was refused because of pods: a user who deletes them waits for nothing else.
pub(crate) fn after_refusal(attempt: i32) -> Duration {
    after(attempt).min(LONGEST_IN_USE)
}

/// The wait after something that worked for `lasted` broke: what worked for long did not fail because of the attempts
/// before.
pub(crate) fn after_loss(attempt: i32, lasted: Duration) -> Duration {
    if lasted > LONGEST { FIRST } else { after(attempt) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_waits_twice_as_long_up_to_ten_minutes() {
        let seconds: Vec<_> = [0, 1, 2, 3, 6, 7, i32::MAX].into_iter().map(|n| after(n).as_secs()).collect();
        assert_eq!(seconds, [10, 10, 20, 40, 320, 600, 600]);
    }
}
