//! Which processes of the node run a file below a folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::system::Process;

/// The processes whose program is a file below `folder`. A program in a container's own file system view may
/// show another path there, so files are also compared by device and inode.
#[must_use]
pub fn below(folder: &Path) -> Vec<Process> {
    let files = inodes(folder);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = pids.filter_map(|pid| runs_below(pid, folder, &files)).collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn runs_below(pid: u32, folder: &Path, files: &BTreeSet<(u64, u64)>) -> Option<Process> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let shown = fs::read_link(&link).ok()?;
    let shown = shown.to_string_lossy();
    let program = PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
    let same = fs::metadata(&link).is_ok_and(|file| files.contains(&(file.dev(), file.ino())));
    if !same && !program.starts_with(folder) {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    Some(Process { pid, name, program })
}

fn inodes(folder: &Path) -> BTreeSet<(u64, u64)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => drop(found.insert((metadata.dev(), metadata.ino()))),
                Err(_) => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_program_is_found_and_one_that_ended_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("sleeper");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let found = below(folder.path());
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [child.id()]);
        assert_eq!(found[0].name, "sleeper");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(below(folder.path()), []);
    }
}
