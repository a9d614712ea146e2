//! Which processes of the node there are, and which run a file below a folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::system::{Process, Running};

/// The node's first process and those of these names. A container shares the node's process ids, but not its
/// root directory: what runs in one does not count.
#[must_use]
pub fn running(names: &[&str]) -> Vec<Running> {
    let root = root_of("self");
    let mut found: Vec<Running> = pids()
        .filter_map(described)
        .filter(|process| process.pid == 1 || is_one_of(process, names) && root_of(process.pid) == root)
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn is_one_of(process: &Running, names: &[&str]) -> bool {
    let program = process.program.file_name().and_then(|name| name.to_str());
    names.contains(&process.name()) || program.is_some_and(|program| names.contains(&program))
}

fn root_of(process: impl std::fmt::Display) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{process}/root/.")).ok().map(|root| (root.dev(), root.ino()))
}

fn described(pid: u32) -> Option<Running> {
    let program = program(&PathBuf::from(format!("/proc/{pid}/exe"))).unwrap_or_default();
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold blanks and parentheses.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Running { pid, parent, program, arguments: words.filter(|word| !word.is_empty()).collect() })
}

/// The file that a link of `/proc` to a program leads to, whether it is still there or not.
fn program(link: &Path) -> Option<PathBuf> {
    let shown = fs::read_link(link).ok()?;
    let shown = shown.to_string_lossy();
    Some(PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown)))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The processes whose program is a file below `folder`. A program in a container's own file system view may
/// show another path there, so files are also compared by device and inode.
#[must_use]
pub fn below(folder: &Path) -> Vec<Process> {
    let files = inodes(folder);
    let mut found: Vec<Process> = pids().filter_map(|pid| runs_below(pid, folder, &files)).collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn runs_below(pid: u32, folder: &Path, files: &BTreeSet<(u64, u64)>) -> Option<Process> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let program = program(&link)?;
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
    fn a_process_is_found_by_its_name_with_its_parent_and_its_command_line() {
        let mut child = std::process::Command::new("sleep").arg("61").spawn().unwrap();
        let found = running(&["sleep"]);
        let sleep = found.iter().find(|process| process.pid == child.id()).unwrap();
        assert_eq!(
            (sleep.parent, sleep.arguments.as_slice()),
            (std::process::id(), &["sleep".into(), "61".into()][..])
        );
        assert_eq!(found[0].pid, 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }

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
