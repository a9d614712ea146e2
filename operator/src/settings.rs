//! What the operator is told at its start: arguments, or the environment variables of KWasm 0.2 and some more.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Turns nodes into nodes that run WebAssembly.
#[derive(Clone, Debug, Parser)]
#[command(name = "kwasm-operator", version)]
pub(crate) struct Settings {
    /// Namespace of the operator and of the installer Jobs.
    #[arg(long, env = "CONTROLLER_NAMESPACE", default_value = "kwasm")]
    pub(crate) controller_namespace: String,

    /// Treat every node as if it had opted in.
    #[arg(long, env = "AUTO_PROVISION_NODES", action = clap::ArgAction::Set, default_value = "false", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) auto_provision_nodes: bool,

    /// Image of the program that changes nodes.
    #[arg(long, env = "INSTALLER_IMAGE", default_value = concat!("ghcr.io/kwasm/kwasm-installer:", env!("CARGO_PKG_VERSION")))]
    pub(crate) installer_image: String,

    /// PriorityClass of the installer's pods; empty for none.
    #[arg(long, env = "INSTALLER_PRIORITY_CLASS", default_value = "system-node-critical")]
    pub(crate) installer_priority_class: String,

    /// Secrets for pulling the installer's image, and for what the installer pulls itself, separated by commas.
    #[arg(long, env = "INSTALLER_PULL_SECRETS", value_delimiter = ',')]
    pub(crate) installer_pull_secrets: Vec<String>,

    /// The installer's HTTP_PROXY; empty for none.
    #[arg(long, env = "INSTALLER_HTTP_PROXY", default_value = "")]
    pub(crate) installer_http_proxy: String,

    /// The installer's HTTPS_PROXY; empty for none.
    #[arg(long, env = "INSTALLER_HTTPS_PROXY", default_value = "")]
    pub(crate) installer_https_proxy: String,

    /// The installer's NO_PROXY; empty for none.
    #[arg(long, env = "INSTALLER_NO_PROXY", default_value = "")]
    pub(crate) installer_no_proxy: String,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub(crate) listen_address: SocketAddr,

    /// Name of this process in the Lease; unique among the replicas.
    #[arg(long, env = "POD_NAME", default_value = "kwasm-operator")]
    pub(crate) identity: String,

    /// How to write the log. What is written is set by RUST_LOG.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Something else than running the controllers.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the program can do besides running the controllers.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Delete every WasmRuntime, and wait until no node has one.
    Uninstall {
        /// Seconds to wait.
        #[arg(long = "timeout", default_value = "240")]
        patience: Seconds,
    },
    /// Make the CRDs those of this version.
    UpgradeCrds,
}

/// A duration as a whole number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(u64);

impl FromStr for Seconds {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl From<Seconds> for Duration {
    fn from(Seconds(seconds): Seconds) -> Self {
        Self::from_secs(seconds)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("true", true)]
    #[case("false", false)]
    fn auto_provision_takes_the_words_of_kwasm(#[case] word: &str, #[case] expected: bool) {
        let settings = Settings::try_parse_from(["kwasm-operator", "--auto-provision-nodes", word]).unwrap();
        assert_eq!(settings.auto_provision_nodes, expected);
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Settings::command().debug_assert();
    }
}
