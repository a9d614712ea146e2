//! The program that installs WebAssembly runtimes on a node.
//!
//! ```text
//! Order ─► Target ──┐
//! host ──► Observed ┴► Plan ──► applied, journalled, undone on failure ──► verified by CRI ──► Report
//! ```
//! - [`target`]: the Order, validated.
//! - [`platform`]: which daemon, which file, and how it is taken up.
//! - [`observe`]: reads the node; changes nothing.
//! - [`plan`]: pure; every choice is made here.
//! - [`apply`]: executes the steps of a plan, or takes them back.
//! - [`verify`]: asks the running daemon.
//! - [`config`]: the daemon's configuration.
//! - [`host`]: files, commands and processes of the node.

pub mod apply;
pub mod artifacts;
pub mod cli;
pub mod config;
pub mod failure;
pub mod host;
pub mod ledger;
pub mod observe;
pub mod plan;
pub mod platform;
pub mod render;
pub mod run;
pub mod status;
pub mod step;
pub mod target;
pub mod verify;
