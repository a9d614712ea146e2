//! Conditions: what is said of an object, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is to be said; the time of the last change is found by [`settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) type_: &'static str,
    pub(crate) status: bool,
    /// One word in CamelCase.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Said {
    pub(crate) fn new(type_: &'static str, status: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { type_, status, reason: reason.to_owned(), message: message.into() }
    }

    fn status(&self) -> &'static str {
        if self.status { "True" } else { "False" }
    }
}

/// Turns what is to be said into conditions; one whose status is as before keeps its time.
pub(crate) fn settle(before: &[Condition], said: Vec<Said>, generation: Option<i64>, now: &Time) -> Vec<Condition> {
    said.into_iter()
        .map(|said| {
            let same = before.iter().find(|old| old.type_ == said.type_ && old.status == said.status());
            Condition {
                last_transition_time: same.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
                observed_generation: generation,
                status: said.status().to_owned(),
                type_: said.type_.to_owned(),
                reason: said.reason,
                message: said.message,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_condition_whose_status_stays_keeps_its_time() {
        let first = settle(&[], vec![Said::new("Ready", false, "Installing", "one")], Some(1), &at(10));
        let second = settle(&first, vec![Said::new("Ready", false, "Failed", "two")], Some(1), &at(20));
        assert_eq!(second[0].last_transition_time, at(10));
        assert_eq!(second[0].message, "two");
    }

    #[test]
    fn a_condition_whose_status_changes_has_a_new_time() {
        let first = settle(&[], vec![Said::new("Ready", false, "Installing", "")], Some(1), &at(10));
        let second = settle(&first, vec![Said::new("Ready", true, "Verified", "")], Some(1), &at(20));
        assert_eq!(second[0].last_transition_time, at(20));
    }
}
