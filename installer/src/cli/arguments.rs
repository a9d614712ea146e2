//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Installs WebAssembly runtimes on a node and takes them away again.
///
/// The node's containerd loads every new configuration before it counts. After a restart CRI must answer and
/// serve the runtimes, or the old files come back. Uninstalling returns every file byte for byte.
#[derive(Debug, Parser)]
#[command(name = "kwasm-installer", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Do>,
    #[command(flatten)]
    pub(super) options: Options,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done, or nothing to do; with `status` and `verify`: the node is as it should be
  1  `status` and `verify` only: it is not
  2  the command line is wrong, or a file that it names cannot be used
  3  not done; the node is unchanged; `status` and `verify`: it could not be looked at
  4  not done; what was changed has been undone and the container runtime works
  5  not done, and undoing did not succeed: somebody should look

Examples:
  kwasm-installer install wasmtime         add the bundled Wasmtime shim to this machine
  kwasm-installer plan --order order.json  what an Order would change, as steps and as a diff
  kwasm-installer status --output json     for scripts";

#[derive(Debug, Subcommand)]
pub(super) enum Do {
    /// Show what is on the node, whether it is served, and whether a run was cut off
    Status,
    /// Print what `apply` would do, as steps and as a diff; change nothing
    Plan {
        /// The Order: a file, or - for standard input. Without it, the environment's KWASM_ORDER.
        #[arg(long, value_name = "FILE")]
        order: Option<PathBuf>,
    },
    /// Add bundled runtimes to those that are on the node: all of the bundle if none is named
    Install {
        /// Names of bundled runtimes, such as wasmtime.
        names: Vec<String>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove runtimes: all if none is named
    Uninstall {
        /// Names of runtimes.
        names: Vec<String>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Like `status`, but silent if all is well: for scripts
    Verify,
    /// End a run that was cut off: complete it, or undo it if that is not possible
    Recover,
    /// Bring the node to an Order: what it does not name is removed. The default, as a Job runs it
    Apply {
        /// The Order: a file, or - for standard input. Without it, the environment's KWASM_ORDER.
        #[arg(long, value_name = "FILE")]
        order: Option<PathBuf>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// How an answer is printed to standard output. What is being done goes to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Options {
    /// How the answer is printed; what is being done is always told on standard error.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Output,
    /// Where the node's / is mounted in this container, which needs hostPID and privileged; / on the node itself.
    #[arg(long, global = true, env = "NODE_ROOT", default_value = "/", value_name = "DIR")]
    pub(super) node_root: PathBuf,
    /// Bundled runtimes: a folder for each.
    #[arg(long, global = true, default_value = "/bundled", value_name = "DIR")]
    pub(super) bundled_dir: PathBuf,
    /// Where binaries go on the node [default: where they are; else /opt/kwasm, or /var/lib/kwasm if that takes no
    /// programs; k3s and RKE2: /var/lib/kwasm first; MicroK8s: /var/snap/microk8s/common/kwasm].
    #[arg(long, global = true, env = "KWASM_INSTALL_DIR", value_name = "DIR")]
    pub(super) install_dir: Option<PathBuf>,
    /// Write the Report of a run, one line of JSON, to this file; `status`, `verify` and `plan` have none.
    #[arg(long, global = true, env = "KWASM_REPORT", value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Remove a runtime's configuration although containers of it run; their binaries stay until they end.
    #[arg(long, global = true)]
    pub(super) force: bool,
    /// Seconds to wait for another installer on this node.
    #[arg(long, global = true, default_value_t = 300, value_name = "SECONDS")]
    pub(super) lock_timeout: u64,
    /// Seconds that CRI may take after a restart.
    #[arg(long, global = true, default_value_t = 90, value_name = "SECONDS")]
    pub(super) cri_timeout: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
