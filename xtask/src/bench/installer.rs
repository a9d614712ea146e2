//! What an installation costs a node: its own time, its memory, and how long CRI does not answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use kwasm_installer::host::cri;
use kwasm_test_cluster::Node;

use crate::by_hand::ByHand;

/// Installations of each node that are timed, and as many that are watched: an odd number, so that the median is one of them.
const ROUNDS: usize = 5;
/// As the kernel shortens a program's name.
const PROGRAM: &str = "kwasm-installer";
/// Between two looks at the program's memory or at CRI.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const SOCKET: &str = "run/containerd/containerd.sock";

/// The figures of one node, on which nothing is installed before or after.
pub(super) fn measure(node: &Node) -> Result<Vec<(String, String)>> {
    let installer = ByHand::on(node)?;
    let (mut times, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        times.push(time(&installer)?);
        installer.run(&["uninstall"])?;
    }
    for _ in 0..ROUNDS {
        watched.push(watch(node, &installer)?);
        installer.run(&["uninstall"])?;
    }
    let version = node.containerd_version();
    let own = |time: &Time| time.whole.saturating_sub(time.restart);
    let memory = watched.iter().map(|watched| watched.memory).max().unwrap_or_default();
    let figures = [
        ("installation without the restart", median(times.iter().map(own))),
        ("restart until the handlers are served", median(times.iter().map(|time| time.restart))),
        ("CRI without an answer during it", median(watched.iter().map(|watched| watched.silence))),
        ("peak memory of the installer", format!("{memory} KiB")),
    ];
    Ok(figures.map(|(what, figure)| (format!("containerd {version}: {what}"), figure)).into())
}

fn median(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    format!("{} ms", times[times.len() / 2].as_millis())
}

/// How long one installation took.
struct Time {
    /// All of it, entering the node included.
    whole: Duration,
    /// From the restart's begin to CRI serving the handlers.
    restart: Duration,
}

fn time(installer: &ByHand<'_>) -> Result<Time> {
    let started = Instant::now();
    let log = installer.run(&["install"])?;
    Ok(Time { whole: started.elapsed(), restart: restart(&log)? })
}

/// What shows of one installation to somebody who looks all the time, which takes a processor of its own: such an
/// installation says nothing about times.
struct Watched {
    /// The longest time without an answer from CRI.
    silence: Duration,
    /// The program's own peak, in KiB.
    memory: u64,
}

fn watch(node: &Node, installer: &ByHand<'_>) -> Result<Watched> {
    let first = node.first_process()?;
    let socket = format!("/proc/{first}/root/{SOCKET}");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let silence = scope.spawn(|| longest_silence(&socket, &ended));
        let memory = scope.spawn(|| peak_memory(&ended));
        let log = installer.run(&["install"]);
        ended.store(true, Ordering::Relaxed);
        log?;
        let panicked = |_| anyhow!("a measuring thread panicked");
        Ok(Watched { silence: silence.join().map_err(panicked)?, memory: memory.join().map_err(panicked)? })
    })
}

/// The time between two lines of the installer's log, each of which begins `[  0.12 s]`.
fn restart(log: &str) -> Result<Duration> {
    let at = |words: &str| {
        let line = log.lines().find(|line| line.contains(words)).with_context(|| format!("no {words:?} in:\n{log}"))?;
        let seconds = line.trim_start_matches('[').split_whitespace().next().unwrap_or_default();
        seconds.parse::<f64>().with_context(|| format!("no time before {line:?}"))
    };
    Ok(Duration::from_secs_f64(at("CRI serves")? - at("restart containerd")?))
}

fn longest_silence(socket: &str, ended: &AtomicBool) -> Duration {
    let (mut answered, mut longest) = (Instant::now(), Duration::ZERO);
    while !ended.load(Ordering::Relaxed) {
        if cri::status(socket).is_ok_and(|status| status.ready) {
            longest = longest.max(answered.elapsed());
            answered = Instant::now();
        }
        std::thread::sleep(LOOK_EVERY);
    }
    longest
}

fn peak_memory(ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    let mut process: Option<PathBuf> = None;
    while !ended.load(Ordering::Relaxed) {
        process = process.or_else(running);
        let status = process.as_ref().and_then(|process| std::fs::read_to_string(process.join("status")).ok());
        let line = status.as_deref().and_then(|status| status.lines().find_map(|line| line.strip_prefix("VmHWM:")));
        let now = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(now.unwrap_or_default());
        std::thread::sleep(LOOK_EVERY);
    }
    peak
}

fn running() -> Option<PathBuf> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let named =
        |process: &PathBuf| std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == PROGRAM);
    processes.filter(|path| path.join("exe").exists()).find(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_restart_is_what_lies_between_its_two_lines() {
        let log =
            "[  0.10 s] look at the node\n[  0.25 s] restart containerd.service\n[  1.50 s] CRI serves the handlers\n";
        assert_eq!(restart(log).unwrap(), Duration::from_secs_f64(1.25));
    }
}
