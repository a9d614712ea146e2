//! Steps that a person watches: each with its number, how long it took, and where to look if it fails.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A run of numbered steps.
pub struct Steps {
    started: Instant,
    done: usize,
    total: usize,
}

impl Steps {
    /// A run of `total` steps that starts now.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { started: Instant::now(), done: 0, total }
    }

    /// Does one step. `look_at` says what to look at if it fails.
    ///
    /// # Errors
    /// The step's own, with its name and what to look at.
    pub fn step<T>(
        &mut self,
        title: impl Display,
        look_at: impl Display,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.done += 1;
        let (number, total) = (self.done, self.total);
        println!("[{}] {number}/{total} {title} …", clock(self.started.elapsed()));
        let started = Instant::now();
        let result = work();
        let took = clock(started.elapsed());
        match result {
            Ok(value) => {
                println!("[{}] {number}/{total} done in {took}", clock(self.started.elapsed()));
                Ok(value)
            }
            Err(error) => Err(error)
                .context(format!("step {number} of {total} ({title}) failed after {took}; look at: {look_at}")),
        }
    }

    /// The time since the first step.
    #[must_use]
    pub fn elapsed(&self) -> String {
        clock(self.started.elapsed())
    }
}

/// Says what went wrong.
#[must_use]
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("{}", explain(error));
    ExitCode::FAILURE
}

/// An error and what led to it, a line for each.
fn explain(error: &anyhow::Error) -> String {
    let causes = error.chain().skip(1).map(|cause| format!("\n  because: {cause}"));
    format!("error: {error}{}", causes.collect::<String>())
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_which_why_and_where_to_look() {
        let failed: Result<()> = Steps::new(2).step("build", "the lines above", || anyhow::bail!("no space left"));
        let text = explain(&failed.unwrap_err());
        for part in ["step 1 of 2", "build", "look at: the lines above", "because: no space left"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
