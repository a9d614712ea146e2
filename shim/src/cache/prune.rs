//! What the store lets go of: it is filled by whatever runs on the node, and nobody else empties it.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long an artefact is kept that no container was started from.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many bytes the artefacts may have together.
const SIZE_MAX: u64 = 1 << 30;

/// How long nothing is removed that was used: its container may be about to open it. Longer than a container may take to be
/// created.
const GRACE: Duration = Duration::from_secs(300);

/// An artefact in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    name: String,
    bytes: u64,
    /// When it was written or last used.
    used: SystemTime,
}

/// Removes artefacts that were not used for long, and as many of the longest unused as are too many. Running containers keep
/// theirs: they have it open. Whatever cannot be read or removed stays for the next time.
pub(super) fn prune(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for name in superfluous(entries.filter_map(|entry| stored(&entry)).collect(), SystemTime::now()) {
        let _ = fs::remove_file(dir.join(name));
    }
}

/// Artefacts, and what an interrupted compilation has left of one.
fn stored(entry: &DirEntry) -> Option<Stored> {
    let name = entry.file_name().into_string().ok()?;
    let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file() && name.contains(".cwasm"))?;
    Some(Stored { name, bytes: metadata.len(), used: metadata.modified().ok()? })
}

fn superfluous(mut stored: Vec<Stored>, now: SystemTime) -> Vec<String> {
    stored.sort_by_key(|file| std::cmp::Reverse(file.used));
    let mut kept = 0_u64;
    let mut superfluous = Vec::new();
    for file in stored {
        // A clock that was set back makes a file of the future: it counts as used just now.
        let unused = now.duration_since(file.used).unwrap_or_default();
        let fits = unused <= UNUSED_MAX && kept.saturating_add(file.bytes) <= SIZE_MAX;
        if fits || unused <= GRACE {
            kept = kept.saturating_add(file.bytes);
        } else {
            superfluous.push(file.name);
        }
    }
    superfluous
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MIB: u64 = 1 << 20;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 10_000 * DAY
    }

    fn file(name: &str, mebibytes: u64, unused: Duration) -> Stored {
        Stored { name: name.to_owned(), bytes: mebibytes * MIB, used: now() - unused }
    }

    #[test]
    fn what_was_used_within_a_month_stays() {
        let stored = vec![file("a", 1, Duration::ZERO), file("b", 1, 29 * DAY)];
        assert!(superfluous(stored, now()).is_empty());
    }

    #[test]
    fn what_was_not_used_for_a_month_goes() {
        let stored = vec![file("old", 1, 31 * DAY), file("new", 1, DAY)];
        assert_eq!(superfluous(stored, now()), ["old"]);
    }

    #[test]
    fn of_too_much_the_longest_unused_goes() {
        let stored = vec![file("b", 500, 2 * DAY), file("c", 500, 3 * DAY), file("a", 500, DAY)];
        assert_eq!(superfluous(stored, now()), ["c"]);
    }

    #[test]
    fn what_was_used_just_now_stays_whatever_there_is() {
        let moment = Duration::from_secs(10);
        let stored = vec![file("a", 1000, moment), file("b", 1000, moment), file("c", 1, DAY)];
        assert_eq!(superfluous(stored, now()), ["c"]);
    }

    #[test]
    fn only_artefacts_and_their_beginnings_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ab.r-1.cwasm", "cd.r-1.cwasm.unfinished", "lock-ab"] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - 31 * DAY).unwrap();
        }
        fs::create_dir(dir.path().join("empty")).unwrap();
        prune(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["empty", "lock-ab"]);
    }
}
