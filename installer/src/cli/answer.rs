//! What a command answers, for people or for programs.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;

use kwasm_api::Report;
use kwasm_api::report::{NodeState, RuntimeState};
use serde_json::{Value as Json, json};

use super::arguments::Output;
use crate::failure::Stop;
use crate::render;
use crate::run::{Prepared, refused};
use crate::status::Status;

/// The exit code of `status` and `verify` on a node that is not as it should be.
const NOT_WELL: u8 = 1;

pub(super) enum Answer {
    /// A run, and why it stopped if it did.
    Report(Report, Option<Stop>),
    /// What would be done.
    Plan(Box<Prepared>),
    /// What is there; and whether silence means that all is well.
    Status(Status, bool),
    /// `recover` found no run that was cut off.
    NothingToRecover,
}

impl Answer {
    pub(super) fn refused(stop: Stop) -> Self {
        let (report, stop) = refused(stop);
        Self::Report(report, stop)
    }

    /// Prints the answer, writes the Report where one is wanted, and gives the exit code.
    pub(super) fn finish(&self, output: Output, file: Option<&mut File>) -> ExitCode {
        let told = |words: String| drop(writeln!(io::stderr(), "kwasm-installer: {words}"));
        if let Self::Report(report, _) = self
            && let Some(Err(error)) = file.map(|file| file.write_all(report.to_json().as_bytes()))
        {
            told(format!("cannot write the Report: {error}"));
        }
        let text = match output {
            Output::Text => self.text(),
            Output::Json => format!("{}\n", self.json()),
        };
        if let Err(error) = io::stdout().write_all(text.as_bytes()) {
            told(format!("cannot write the answer: {error}"));
        }
        match self {
            Self::Report(_, Some(stop)) => {
                told(format!("{stop}\n{}. What to do: {}.", left(stop.state), stop.remedy));
                ExitCode::from(stop.exit_code())
            }
            Self::Status(status, _) if !status.is_well() => ExitCode::from(NOT_WELL),
            _ => ExitCode::SUCCESS,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Report(report, _) => runtimes(report),
            Self::Plan(prepared) => render::plan(&prepared.observed, &prepared.plan),
            Self::Status(status, quiet) if *quiet && status.is_well() => String::new(),
            Self::Status(status, _) => status.to_string(),
            Self::NothingToRecover => "no run was cut off: nothing to recover\n".to_owned(),
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Report(report, _) => json!(report),
            Self::Plan(prepared) => render::plan_document(&prepared.observed, &prepared.plan),
            Self::Status(status, _) => json!(status),
            Self::NothingToRecover => json!(Report { version: 1, ..Report::default() }),
        }
    }
}

/// Which node it is, and what it looks like now.
fn left(state: NodeState) -> String {
    // The operator tells a Job; elsewhere the machine calls itself something.
    let node = std::env::var("NODE_NAME").unwrap_or_else(|_| {
        let machine = rustix::system::uname();
        machine.nodename().to_string_lossy().into_owned()
    });
    let state = match state {
        NodeState::Unchanged => "is unchanged",
        NodeState::RolledBack => "is as it was before: what was changed has been undone",
        NodeState::NeedsAttention => "needs attention: undoing did not succeed",
    };
    format!("The node {node} {state}")
}

fn runtimes(report: &Report) -> String {
    let line = |runtime: &kwasm_api::report::RuntimeReport| {
        let state = match runtime.state {
            RuntimeState::Ready => "ready",
            RuntimeState::Removed => "removed",
            RuntimeState::Failed => "failed",
        };
        let path = runtime.path.as_deref().map(|path| format!(", {path}")).unwrap_or_default();
        format!("{}: {state} (handler {}{path})\n", runtime.name, runtime.handler)
    };
    report.runtimes.iter().map(line).collect()
}
