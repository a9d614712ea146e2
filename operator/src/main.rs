//! The controllers that turn nodes into nodes that run WebAssembly.

mod conditions;
mod fleet;
mod leader;
mod log;
mod metrics;
mod node;
mod observed;
mod operator;
mod server;
mod settings;
#[cfg(test)]
mod testing;
mod uninstall;
mod upgrade;
mod watch;
mod world;

use anyhow::{Result, anyhow};
use clap::Parser;
use rustls::crypto::ring;

use crate::settings::{Command, Settings};

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::parse();
    log::start(settings.log_format);
    ring::default_provider().install_default().map_err(|_| anyhow!("a TLS provider is installed already"))?;
    match &settings.command {
        None => operator::run(settings).await,
        Some(Command::Uninstall { patience }) => uninstall::run((*patience).into()).await,
        Some(Command::UpgradeCrds) => upgrade::run().await,
    }
}
