//! Why an Order was not carried out: the one place where errors become a [`Failure`].

use kwasm_api::report::{Failure, NodeState};

/// One word for conditions and alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The command line names what is not there.
    InvalidCommandLine,
    /// The Order cannot be read or contradicts itself.
    InvalidOrder,
    /// The pod cannot reach its node.
    NodeNotReachable,
    /// Another installer keeps the node's lock.
    NodeBusy,
    /// The node's container runtime is none that this version knows.
    NodeNotSupported,
    /// What was seen of the node contradicts itself.
    NodeAmbiguous,
    /// containerd is too old.
    ContainerdTooOld,
    /// CRI-O is too old.
    CrioTooOld,
    /// The node's container runtime cannot start a binary of this kind.
    RuntimeKindNotSupported,
    /// CRI is switched off or did not answer before anything was changed.
    CriNotAvailable,
    /// The configuration is no file that can be read.
    ConfigNotReadable,
    /// The configuration is not TOML.
    ConfigNotToml,
    /// The configuration has a version that is not known.
    ConfigVersionNotSupported,
    /// The configuration's layout cannot be edited.
    ConfigLayoutNotSupported,
    /// containerd itself refuses the configuration, ours not being in it.
    ConfigNotLoadable,
    /// containerd refuses the new configuration.
    CandidateRefused,
    /// The new configuration would change more than our handlers.
    CandidateChangesMore,
    /// The new configuration loads, but our handlers are not in it.
    HandlerNotLoaded,
    /// Somebody else's handler has the name.
    HandlerConflict,
    /// A `preinstalled` handler is not there.
    HandlerMissing,
    /// The bundle lacks a runtime.
    BundleNotUsable,
    /// A runtime could not be fetched.
    ArtifactNotFetched,
    /// What was fetched is not what was ordered, or this node cannot run it.
    ArtifactRefused,
    /// The binary of a `host` runtime is not there.
    BinaryMissing,
    /// No directory takes programs.
    NoInstallDirectory,
    /// Something else stands where a file or directory of ours must be.
    PathOccupied,
    /// A runtime that should go still runs containers.
    RuntimeInUse,
    /// The installer's own record cannot be read.
    LedgerNotReadable,
    /// Somebody else changed the configuration while the installer was at work.
    ConfigChanged,
    /// A file could not be changed.
    FileNotChanged,
    /// The unit could not be restarted.
    RestartFailed,
    /// CRI did not come back after the restart.
    CriDidNotReturn,
    /// CRI came back without our handlers.
    HandlerNotServed,
}

/// Why the run stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {message}")]
pub struct Stop {
    /// The step that failed, in words.
    pub step: String,
    /// One word.
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// What the node looks like now.
    pub state: NodeState,
    /// What to do next.
    pub remedy: String,
}

impl Stop {
    /// Stops before anything was changed.
    #[must_use]
    pub fn unchanged(step: impl Into<String>, reason: Reason, message: impl ToString) -> Self {
        let remedy = reason.remedy().to_owned();
        Self { step: step.into(), reason, message: message.to_string(), state: NodeState::Unchanged, remedy }
    }

    /// The same with a better way out.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &str) -> Self {
        remedy.clone_into(&mut self.remedy);
        self
    }

    /// The same with what the node looks like after undoing.
    #[must_use]
    pub fn left(mut self, state: NodeState) -> Self {
        self.state = state;
        self
    }

    /// As the Report has it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let Self { step, reason, message, state, remedy } = self.clone();
        Failure { step, reason: format!("{reason:?}"), message, node_state: state, remedy }
    }

    /// The program's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match (self.state, self.reason) {
            (NodeState::Unchanged, Reason::InvalidCommandLine) => 2,
            (NodeState::Unchanged, _) => 3,
            (NodeState::RolledBack, _) => 4,
            (NodeState::NeedsAttention, _) => 5,
        }
    }
}

/// Where the systems that are known are listed.
const UNKNOWN_SYSTEM: &str = "see https://github.com/kwasm/kwasm/blob/main/docs/installer.md for the systems that are known; elsewhere install the runtime by other means and use the source `preinstalled`";

/// For a configuration that does not come to what it says.
const OVERRIDDEN: &str = "look for an import or a drop-in that overrides the CRI plugin's section, or a file of a version that this daemon does not read; please report it with this message, the file, and what the daemon prints for it (`containerd --config FILE config dump`, or `crio config`)";

/// For a file that containerd would refuse at its next start.
const REPAIR: &str = "repair the file: `containerd config dump` must print a configuration; containerd keeps running with the one it has loaded until its next restart";

/// For a record that is damaged.
const ADOPT: &str =
    "move the file away and install the same runtimes again, which adopts their entries in the configuration";

/// What a Job must be.
const JOB: &str = "run the pod with `hostPID: true`, `privileged: true` and the node's `/` mounted at $NODE_ROOT";

impl Reason {
    /// What to do next.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::InvalidCommandLine => "see `kwasm-installer --help`",
            Self::InvalidOrder => {
                "correct the Order, or the WasmRuntime that it was made from; the installer must be of the operator's release"
            }
            Self::NodeNotReachable => JOB,
            Self::NodeBusy => "wait for the other installer to end; it holds /run/kwasm-installer.lock",
            Self::NodeNotSupported => UNKNOWN_SYSTEM,
            Self::NodeAmbiguous => "disable the container runtime that is not needed, or restart the one that is",
            Self::ContainerdTooOld => "update containerd to 1.6 or newer",
            Self::CrioTooOld => "update CRI-O to 1.30 or newer",
            Self::RuntimeKindNotSupported => {
                "choose another runtime for this node, or keep it away by the nodeSelector"
            }
            Self::CriNotAvailable => {
                "repair the node's container runtime first: `crictl info` and the journal of its unit tell more"
            }
            Self::ConfigNotReadable => "put a regular file there, or a link to one, that root can read",
            Self::ConfigNotToml | Self::ConfigNotLoadable => REPAIR,
            Self::ConfigVersionNotSupported => {
                "use a newer installer image, or register the handler by hand and use the source `preinstalled`"
            }
            Self::ConfigLayoutNotSupported => {
                "write the table of runtimes as `[…]` tables, or register the handler by hand and use the source `preinstalled`"
            }
            Self::CandidateRefused | Self::CandidateChangesMore | Self::HandlerNotLoaded => OVERRIDDEN,
            Self::HandlerConflict => "choose another handler name, or take the existing entry out of the configuration",
            Self::HandlerMissing => "register the handler on the node, or choose another source",
            Self::BundleNotUsable => "use an installer image that carries the runtime",
            Self::ArtifactNotFetched => {
                "make the server reachable from this node (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or correct the address"
            }
            Self::ArtifactRefused => "correct the WasmRuntime, or what the server has under that name",
            Self::BinaryMissing => "install the binary on the node, or correct the path",
            Self::NoInstallDirectory => {
                "name a directory with --install-dir that is writable, not mounted noexec and on a disk"
            }
            Self::PathOccupied => "move it away, or name another directory for binaries with --install-dir",
            Self::RuntimeInUse => {
                "delete the pods or containers that use it first; by hand, --force takes the configuration away and leaves the binaries"
            }
            Self::LedgerNotReadable => ADOPT,
            Self::ConfigChanged => "run it again: it reads the file anew",
            Self::FileNotChanged => "make room or make the file system writable, then run it again",
            Self::RestartFailed | Self::CriDidNotReturn | Self::HandlerNotServed => {
                "look at the journal of the container runtime's unit; the installer can be run again at any time"
            }
        }
    }
}

/// Names as a message lists them.
#[must_use]
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use kwasm_api::report::RUNTIME_IN_USE;

    use super::*;

    #[test]
    fn the_operator_knows_a_runtime_in_use_by_its_reason() {
        let stop = Stop::unchanged("look for containers", Reason::RuntimeInUse, "1 container");
        assert_eq!(stop.failure().reason, RUNTIME_IN_USE);
    }
}
