//! What a call of the program does.

mod delete;
mod info;
mod serve;
mod start;

use std::process::ExitCode;

use crate::command_line::{Action, CommandLine};
use crate::init;

/// Does what a command line asks for.
///
/// # Errors
/// In words for containerd's log, or for whoever called by hand.
pub(crate) fn act(line: &CommandLine) -> anyhow::Result<ExitCode> {
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
