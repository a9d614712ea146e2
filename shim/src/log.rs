//! The log of one shim: lines in containerd's own format, to the FIFO that containerd reads beside the bundle.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// What went wrong without stopping anything.
    Warning,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Log {
    fifo: Option<File>,
    least: Level,
    pod: String,
}

impl Log {
    /// The log beside the bundle in `folder`; without the FIFO the lines are dropped.
    pub(crate) fn open(folder: &Path, pod: &str, debug: bool) -> Self {
        // Read and write: so a restart of containerd, which closes its end, is no error here. Without blocking: a reader
        // that has stopped must not stop the pod; its lines are lost.
        let flags = OFlag::O_NONBLOCK.bits();
        let fifo = File::options().read(true).write(true).custom_flags(flags).open(folder.join("log")).ok();
        Self { fifo, least: if debug { Level::Debug } else { Level::Info }, pod: pod.to_owned() }
    }

    /// Writes one line about a container of the pod; an empty `container` is the pod itself.
    pub(crate) fn write(&self, level: Level, container: &str, message: impl Display) {
        let Some(mut fifo) = self.fifo.as_ref().filter(|_| level >= self.least) else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = line(since.as_secs(), level, &self.pod, container, &message.to_string());
        // At most one pipe buffer per line keeps lines of different shims whole; a full FIFO drops it.
        let _ = fifo.write(text.as_bytes());
    }

    /// Something that happened.
    pub(crate) fn info(&self, container: &str, message: impl Display) {
        self.write(Level::Info, container, message);
    }

    /// Something that went wrong without stopping anything.
    pub(crate) fn warning(&self, container: &str, message: impl Display) {
        self.write(Level::Warning, container, message);
    }

    /// Something for whoever looks for a fault.
    pub(crate) fn debug(&self, container: &str, message: impl Display) {
        self.write(Level::Debug, container, message);
    }
}

fn line(unix_seconds: u64, level: Level, pod: &str, container: &str, message: &str) -> String {
    let mut line = format!("time=\"{}\" level={} msg={message:?}", rfc3339(unix_seconds), level.name());
    let _ = write!(line, " runtime=wasmtime pod={pod}");
    if !container.is_empty() {
        let _ = write!(line, " container={container}");
    }
    line.push('\n');
    line
}

/// UTC, after Howard Hinnant's `civil_from_days`.
fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_which_pod_and_which_container() {
        assert_eq!(
            line(1_709_210_096, Level::Info, "p1", "c1", "exit \"3\""),
            "time=\"2024-02-29T12:34:56Z\" level=info msg=\"exit \\\"3\\\"\" runtime=wasmtime pod=p1 container=c1\n"
        );
    }

    #[test]
    fn without_a_fifo_lines_are_dropped() {
        Log::open(Path::new("/nonexistent"), "p1", true).info("", "nobody reads this");
    }
}
