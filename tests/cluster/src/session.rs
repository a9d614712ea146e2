//! What a person sees while something takes long, and how they stop it.

use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Why waiting ended without the condition being met.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Ctrl-C or a termination signal.
    #[error("interrupted")]
    Interrupted,
    /// The condition was not met in time.
    #[error("waited {} s for {what}{}", limit.as_secs(), if last.is_empty() { String::new() } else { format!("; last seen: {last}") })]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen instead when time ran out.
        last: String,
    },
}

/// One command's run: where progress is shown, and whether it was interrupted.
#[derive(Clone)]
pub struct Session {
    started: Instant,
    out: Option<Arc<Mutex<Box<dyn Write + Send>>>>,
    interrupted: Arc<AtomicBool>,
    /// Whether the interruption was seen: from then on another one is meant.
    noticed: Arc<AtomicBool>,
}

impl Session {
    /// Shows progress on standard error.
    #[must_use]
    pub fn to_stderr() -> Self {
        Self { out: Some(Arc::new(Mutex::new(Box::new(std::io::stderr())))), ..Self::silent() }
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        let never = || Arc::new(AtomicBool::new(false));
        Self { started: Instant::now(), out: None, interrupted: never(), noticed: never() }
    }

    /// Makes SIGINT, SIGTERM and SIGHUP end this session's waits with an error, so that its
    /// owner can clean up. A second SIGINT, after the first was noticed, ends the program at once
    /// (not just any second one: some parents send theirs to the group and to each child).
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&self.noticed))?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&self.interrupted))?;
        }
        Ok(())
    }

    /// The same output and clock, deaf to earlier signals: cleaning up after an interruption
    /// must not be interrupted by it.
    #[must_use]
    pub fn uninterrupted(&self) -> Self {
        Self { interrupted: Arc::new(AtomicBool::new(false)), ..self.clone() }
    }

    /// Shows a line with the seconds since the session began.
    pub fn say(&self, line: impl AsRef<str>) {
        let Some(out) = &self.out else { return };
        let Ok(mut out) = out.lock() else { return };
        // Progress that cannot be shown (a closed terminal) is no reason to fail.
        let _ = writeln!(out, "{:6.1}s  {}", self.started.elapsed().as_secs_f32(), line.as_ref());
    }

    /// Whether a signal asked to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        if interrupted {
            self.noticed.store(true, Ordering::Relaxed);
        }
        interrupted
    }

    /// An error if a signal asked to stop.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn check(&self) -> Result<(), WaitError> {
        if self.is_interrupted() { Err(WaitError::Interrupted) } else { Ok(()) }
    }

    /// Waits until `look` gives `Ok`; its `Err` says what it saw instead.
    ///
    /// # Errors
    /// When interrupted or out of time.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, WaitError> {
        let started = Instant::now();
        loop {
            self.check()?;
            match look() {
                Ok(value) => return Ok(value),
                Err(last) if started.elapsed() >= limit => {
                    return Err(WaitError::TimedOut { what: what.to_owned(), limit, last });
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}
