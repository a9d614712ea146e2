//! The Report: what is on a node, what was done, and if that failed, where the node stands.

use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// The longest Report in bytes: Kubernetes keeps 4096 bytes of a termination message.
pub const REPORT_MAX_BYTES: usize = 4096;

/// The [`Failure::reason`] of an Order that would remove a runtime whose containers still run.
pub const RUNTIME_IN_USE: &str = "RuntimeInUse";

/// What the installer says when it ends. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The document's version: 1.
    #[cfg_attr(feature = "kubernetes", schemars(with = "i32"))]
    pub version: u32,
    /// Digest of the Order that was carried out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub order: String,
    /// What kind of node this is, such as `containerd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// The node's containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<Containerd>,
    /// Every runtime of the Order and every runtime that was removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<RuntimeReport>,
    /// How often the container runtime was restarted.
    #[serde(default)]
    #[cfg_attr(feature = "kubernetes", schemars(with = "i32"))]
    pub restarts: u32,
    /// Why the Order was not carried out; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The container runtime of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Containerd {
    /// Version of the daemon, such as `1.7.24`.
    pub version: String,
    /// Version of the configuration file's format: 1 where it names none.
    #[cfg_attr(feature = "kubernetes", schemars(with = "i32"))]
    pub config_version: u32,
    /// The unit that runs it, such as `containerd.service`.
    pub unit: String,
}

/// One runtime as it is on the node now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RuntimeReport {
    /// Name of the `WasmRuntime`.
    pub name: String,
    /// Its handler.
    pub handler: String,
    /// The revision that was asked for.
    pub revision: String,
    /// Whether the node serves it.
    pub state: RuntimeState,
    /// SHA-256 of its binary in hexadecimal digits, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Path of its binary on the node, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl RuntimeReport {
    /// What is to be said of `runtime`, without a binary.
    #[must_use]
    pub fn of(runtime: &Runtime, state: RuntimeState) -> Self {
        Self {
            name: runtime.name.clone(),
            handler: runtime.handler.clone(),
            revision: runtime.revision.clone(),
            state,
            sha256: None,
            path: None,
        }
    }
}

/// Whether a node serves a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum RuntimeState {
    /// The running daemon serves the handler: verified.
    Ready,
    /// It was removed: the daemon no longer serves the handler.
    Removed,
    /// It is not served.
    Failed,
}

/// Why an Order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step that failed, in words, such as `read /etc/containerd/config.toml`.
    pub step: String,
    /// One word in CamelCase for conditions and alerts, such as `ConfigNotToml`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What the node looks like now.
    pub node_state: NodeState,
    /// What to do next.
    pub remedy: String,
}

/// What a node looks like after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum NodeState {
    /// Nothing was changed.
    Unchanged,
    /// What was changed has been undone, and the container runtime works.
    RolledBack,
    /// Undoing did not succeed: somebody should look.
    NeedsAttention,
}

impl Report {
    /// Reads a Report.
    ///
    /// # Errors
    /// If it is not JSON or lacks a field.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The Report as one line of JSON of at most [`REPORT_MAX_BYTES`]. The failure's message is shortened
    /// first, in its middle, because its end often carries the daemon's own words; then the runtimes go.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut report = self.clone();
        loop {
            // Serialising cannot fail: there are no maps.
            let json = serde_json::to_string(&report).unwrap_or_default();
            if json.len() <= REPORT_MAX_BYTES || !report.shorten() {
                return json;
            }
        }
    }

    fn shorten(&mut self) -> bool {
        const SHORT: usize = 200;
        match &mut self.failure {
            Some(failure) if failure.message.len() > SHORT => {
                failure.message = shorten_middle(&failure.message);
                true
            }
            _ => self.runtimes.pop().is_some(),
        }
    }
}

/// Takes out the middle of a text: what stays is about two thirds of it.
fn shorten_middle(text: &str) -> String {
    let third = text.len() / 3;
    let head = (0..=third).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let tail = (text.len() - third..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    format!("{} … {}", text[..head].trim_end_matches(" …"), text[tail..].trim_start_matches("… "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: String) -> Report {
        Report {
            version: 1,
            failure: Some(Failure {
                step: "restart containerd.service".into(),
                reason: "CriDidNotReturn".into(),
                message,
                node_state: NodeState::RolledBack,
                remedy: "look at the unit's journal".into(),
            }),
            ..Report::default()
        }
    }

    #[test]
    fn a_report_comes_back_from_its_json() {
        let report = failed("containerd exited".into());
        assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
    }

    #[test]
    fn a_long_message_is_shortened_in_its_middle_until_the_report_fits() {
        let json = failed(format!("first {} last", "ä\"".repeat(5000))).to_json();
        assert!(json.len() <= REPORT_MAX_BYTES, "{}", json.len());
        let message = Report::from_json(&json).unwrap().failure.unwrap().message;
        assert!(message.starts_with("first") && message.ends_with("last"), "{message}");
    }

    #[test]
    fn too_many_runtimes_are_left_out_before_the_report_is_cut() {
        let runtime = RuntimeReport {
            name: "r".repeat(60),
            handler: "h".repeat(60),
            revision: "0123456789".into(),
            state: RuntimeState::Ready,
            sha256: Some("0".repeat(64)),
            path: None,
        };
        let report = Report { version: 1, runtimes: vec![runtime; 40], ..Report::default() };
        assert!(report.to_json().len() <= REPORT_MAX_BYTES);
    }
}
