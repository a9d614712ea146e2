//! Whether the running daemon serves what it should: CRI itself is asked.

use std::fmt;
use std::time::Duration;

use crate::config::Entry;
use crate::host::System;
use crate::host::system::CriStatus;

/// What CRI should serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Our handlers, with their configuration.
    pub entries: Vec<Entry>,
    /// Handlers that are there without us: checked by name.
    pub others: Vec<String>,
    /// Handlers that must not be served any more.
    pub gone: Vec<String>,
    /// What our handlers had once and have no more.
    pub dropped: Vec<Dropped>,
    /// Whether pods had a network before, so that they must have one afterwards.
    pub network: bool,
}

/// What a handler of ours had once and has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The handler.
    pub handler: String,
    /// Names of options.
    pub options: Vec<String>,
    /// Whether it was handed annotations of pods and is handed none any more.
    pub pod_annotations: bool,
}

/// What is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// No answer, in words.
    NoAnswer(String),
    /// `RuntimeReady` is false, in words.
    NotReady(String),
    /// `NetworkReady` is false, and was not before.
    NetworkLost,
    /// These are not served, or otherwise than configured.
    NotServed(Vec<String>),
    /// These are still served.
    StillServed(Vec<String>),
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(words) => f.write_str(words),
            Self::NotReady(words) => write!(f, "CRI answers, but its condition RuntimeReady is false: {words}"),
            Self::NetworkLost => {
                f.write_str("CRI answers, but its condition NetworkReady is false, which was true before")
            }
            Self::NotServed(handlers) => {
                write!(f, "CRI answers, but does not serve {} as configured", handlers.join(", "))
            }
            Self::StillServed(handlers) => write!(f, "CRI still serves {}", handlers.join(", ")),
        }
    }
}

impl Expected {
    /// Whether our own handlers are as they should be.
    #[must_use]
    pub fn ours_served(&self, cri: &CriStatus) -> bool {
        self.entries.iter().all(|entry| self.serves(cri, entry))
            && !self.gone.iter().any(|name| cri.handlers.contains_key(name))
    }

    fn serves(&self, cri: &CriStatus, entry: &Entry) -> bool {
        let stale = |dropped: &Dropped| dropped.handler == entry.handler && cri.still_has(dropped);
        cri.serves(entry) && !self.dropped.iter().any(stale)
    }

    /// Compares everything with what CRI says.
    ///
    /// # Errors
    /// The first thing that is not as expected.
    pub fn judge(&self, cri: &CriStatus) -> Result<(), Unmet> {
        if !cri.ready {
            return Err(Unmet::NotReady(cri.message.clone()));
        }
        if self.network && !cri.network_ready {
            return Err(Unmet::NetworkLost);
        }
        let ours = self.entries.iter().filter(|entry| !self.serves(cri, entry)).map(|entry| entry.handler.clone());
        let others = self.others.iter().filter(|name| !cri.handlers.contains_key(*name)).cloned();
        let missing: Vec<String> = ours.chain(others).collect();
        if !missing.is_empty() {
            return Err(Unmet::NotServed(missing));
        }
        let left: Vec<String> = self.gone.iter().filter(|name| cri.handlers.contains_key(*name)).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(Unmet::StillServed(left)) }
    }
}

/// Asks until everything is as expected or patience ends.
///
/// # Errors
/// What was not as expected the last time.
pub fn wait(system: &dyn System, socket: &str, expected: &Expected, patience: Duration) -> Result<(), Unmet> {
    const BETWEEN_MAX: Duration = Duration::from_millis(200);
    let mut between = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        let started = std::time::Instant::now();
        let unmet = match system.cri(socket) {
            Ok(status) => match expected.judge(&status) {
                Ok(()) => return Ok(()),
                Err(unmet) => unmet,
            },
            Err(error) => Unmet::NoAnswer(error.to_string()),
        };
        if waited >= patience {
            return Err(unmet);
        }
        system.pause(between);
        waited += started.elapsed().max(between);
        between = (between * 2).min(BETWEEN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn serving(handlers: serde_json::Value) -> CriStatus {
        let handlers = handlers.as_object().unwrap().clone().into_iter().collect();
        CriStatus { ready: true, message: String::new(), network_ready: true, handlers }
    }

    fn expected() -> Expected {
        let entries = vec![Entry::oci("crun", "/usr/bin/crun")];
        Expected { entries, others: vec!["runc".into()], gone: vec!["spin".into()], dropped: Vec::new(), network: true }
    }

    #[test]
    fn a_handler_with_other_options_is_not_served() {
        let crun = json!({"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/other"}});
        let unmet = expected().judge(&serving(json!({"crun": crun, "runc": {}}))).unwrap_err();
        assert_eq!(unmet.to_string(), "CRI answers, but does not serve crun as configured");
    }

    #[test]
    fn an_option_that_was_taken_away_must_be_gone() {
        let options = json!({"BinaryName": "/usr/bin/crun", "SystemdCgroup": true});
        let crun = json!({"runtimeType": "io.containerd.runc.v2", "options": options, "PodAnnotations": ["a/*"]});
        let served = serving(json!({"crun": crun, "runc": {}}));
        assert_eq!(expected().judge(&served), Ok(()));
        let dropped = |options: &[&str], pod_annotations| Dropped {
            handler: "crun".into(),
            options: options.iter().map(|name| (*name).to_owned()).collect(),
            pod_annotations,
        };
        for dropped in [dropped(&["SystemdCgroup"], false), dropped(&[], true)] {
            let expected = Expected { dropped: vec![dropped], ..expected() };
            assert_eq!(expected.judge(&served), Err(Unmet::NotServed(vec!["crun".into()])));
        }
        let expected = Expected { dropped: vec![dropped(&["Root"], false)], ..expected() };
        assert_eq!(expected.judge(&served), Ok(()));
    }

    #[test]
    fn a_lost_handler_of_others_is_not_served() {
        let crun = json!({"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/crun"}});
        let unmet = expected().judge(&serving(json!({"crun": crun}))).unwrap_err();
        assert_eq!(unmet, Unmet::NotServed(vec!["runc".into()]));
    }

    #[test]
    fn a_removed_handler_that_is_still_there_is_named() {
        let crun = json!({"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/crun"}});
        let unmet = expected().judge(&serving(json!({"crun": crun, "runc": {}, "spin": {}}))).unwrap_err();
        assert_eq!(unmet.to_string(), "CRI still serves spin");
    }

    #[test]
    fn a_runtime_that_is_not_ready_counts_for_nothing() {
        let status = CriStatus { ready: false, message: "why".into(), ..CriStatus::default() };
        let unmet = expected().judge(&status).unwrap_err();
        assert_eq!(unmet.to_string(), "CRI answers, but its condition RuntimeReady is false: why");
    }

    #[test]
    fn a_network_that_was_there_before_must_be_there_again() {
        let status = CriStatus { network_ready: false, ..serving(json!({"runc": {}})) };
        assert_eq!(Expected { network: true, ..Expected::default() }.judge(&status), Err(Unmet::NetworkLost));
        assert_eq!(Expected::default().judge(&status), Ok(()));
    }
}
