//! The containerd shim that runs WebAssembly containers with Wasmtime.
//!
//! One program, several parts: containerd calls [`start`] and [`delete`]; [`serve`] is the pod's running shim; [`init`] is the
//! first stage of a container's process. The engine and the compiler are programs of their own.

mod address;
mod cache;
mod cgroup;
mod command_line;
mod container;
mod delete;
mod entry_point;
mod events;
mod in_root;
mod info;
mod init;
mod installation;
mod launch;
mod log;
mod program;
mod reaper;
mod serve;
mod service;
mod spec;
mod start;
mod stdio;

use std::process::ExitCode;

use command_line::{Action, CommandLine};

fn main() -> ExitCode {
    let done = command_line::parse(std::env::args().skip(1)).map_err(anyhow::Error::from).and_then(|line| act(&line));
    done.unwrap_or_else(|error| {
        eprintln!("containerd-shim-wasmtime-v1: {error:#}");
        ExitCode::FAILURE
    })
}

fn act(line: &CommandLine) -> anyhow::Result<ExitCode> {
    match line.action {
        Action::Init => return Ok(init::init()),
        Action::Pause => return Ok(init::pause()),
        Action::Serve => serve::serve(line)?,
        Action::Start => start::start(line)?,
        Action::Delete => delete::delete(line)?,
        Action::Info => info::print_info()?,
        Action::Version => info::print_version(),
    }
    Ok(ExitCode::SUCCESS)
}
