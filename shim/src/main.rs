//! The containerd shim that runs WebAssembly containers with Wasmtime.
//!
//! One program, several parts: containerd calls the [`actions`] start and delete; serve is the pod's running shim; [`init`] is
//! the first stage of a container's process. The engine and the compiler are programs of their own.

mod actions;
mod address;
mod cache;
mod cgroup;
mod command_line;
mod container;
mod entry_point;
mod events;
mod in_root;
mod init;
mod installation;
mod launch;
mod log;
mod program;
mod reaper;
mod service;
mod spec;
mod stdio;

use std::process::ExitCode;

fn main() -> ExitCode {
    let line = command_line::parse(std::env::args().skip(1)).map_err(anyhow::Error::from);
    line.and_then(|line| actions::act(&line)).unwrap_or_else(|error| {
        eprintln!("containerd-shim-wasmtime-v1: {error:#}");
        ExitCode::FAILURE
    })
}
