//! Signals end a guest: as PID 1 of its namespace the process would otherwise ignore all that it does not handle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

/// The real-time signals that programs may use: an image can name one as its stop signal.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// From now on every signal whose default is the end of the process ends it at once with exit code 128 + n,
/// wherever the guest is.
///
/// # Errors
/// If the kernel refuses a handler.
pub(crate) fn end_the_process() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    let named = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM];
    for signal in named.into_iter().chain(REAL_TIME) {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&always))?;
    }
    Ok(())
}
