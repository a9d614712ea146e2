//! The real node: systemd, container runtimes, `/proc`.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::commands::{LOOK, finish, run};
use super::mounts::Mounts;
use super::system::{CriStatus, Pod, Process, Running, System, SystemError, Unit};
use super::{cri, processes};

/// How long systemd may take to restart a unit: a daemon that hangs is killed after 90 s (systemd's default)
/// and may take as long to start.
const RESTART: Duration = Duration::from_secs(200);

/// What a program that is tried out may complain with.
const TRIED_MAX: u64 = 1024;

/// The user and group that own nothing, on every distribution.
const NOBODY: u32 = 65534;

/// The node that this process runs on.
#[derive(Debug, Default)]
pub struct Node {
    restarted: Cell<Option<SystemTime>>,
}

impl System for Node {
    fn units(&self, names: &[&str]) -> Result<Vec<Unit>, SystemError> {
        let properties = "--property=Id,LoadState,ActiveState,UnitFileState,MainPID";
        let shown = run("systemctl", &[&["show", properties], names].concat(), LOOK)?;
        let mut units: Vec<Unit> = shown.split("\n\n").filter_map(unit).collect();
        units.sort_by(|one, other| one.name.cmp(&other.name));
        units.dedup();
        Ok(units)
    }

    fn running(&self, names: &[&str]) -> Vec<Running> {
        processes::running(names)
    }

    fn mounts(&self) -> Mounts {
        Mounts::parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
    }

    fn daemon_version(&self, daemon: &Path) -> Result<String, SystemError> {
        // containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3
        // crio version 1.31.5
        // k3s version v1.31.5+k3s1 (56ec5dd4)
        let printed = run(&daemon.to_string_lossy(), &["--version"], LOOK)?;
        let version = printed.split_whitespace().nth(2).unwrap_or_default();
        Ok(version.trim_start_matches('v').to_owned())
    }

    fn config_dump(&self, daemon: &Path, file: Option<&Path>) -> Result<String, SystemError> {
        let daemon = daemon.to_string_lossy();
        match file {
            Some(file) => run(&daemon, &["--config", &file.to_string_lossy(), "config", "dump"], LOOK),
            None => run(&daemon, &["config", "default"], LOOK),
        }
    }

    fn crio_config(&self, daemon: &Path, main: Option<&Path>, folder: &Path) -> Result<String, SystemError> {
        // A file that is named must be there; an empty name is none.
        let [daemon, main, folder] = [daemon, main.unwrap_or(Path::new("")), folder].map(Path::to_string_lossy);
        run(&daemon, &["--config", &main, "--config-dir", &folder, "config"], LOOK)
    }

    fn crio_defaults(&self, daemon: &Path) -> Result<String, SystemError> {
        let files = ["--config", "", "--config-dir", ""];
        run(&daemon.to_string_lossy(), &[&files[..], &["config", "--default"]].concat(), LOOK)
    }

    fn restart(&self, unit: &str) -> Result<(), SystemError> {
        self.restarted.set(Some(SystemTime::now()));
        // Without this, a unit that failed a few times in a row is refused its next start.
        run("systemctl", &["reset-failed", unit], LOOK).ok();
        run("systemctl", &["restart", unit], RESTART).map(drop)
    }

    fn end_init(&self) -> Result<(), SystemError> {
        kill_process(Pid::INIT, Signal::TERM)
            .map_err(|error| SystemError::Start { command: "kill -TERM 1".to_owned(), reason: error.to_string() })
    }

    fn last_words(&self, unit: &str) -> String {
        let since = self.restarted.get().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let since = format!("--since=@{}", since.map_or(0, |since| since.as_secs()));
        let arguments = ["--unit", unit, &since, "--lines", "15", "--no-pager", "--output", "cat"];
        run("journalctl", &arguments, LOOK).unwrap_or_else(|error| error.to_string())
    }

    fn cri(&self, socket: &str) -> Result<CriStatus, SystemError> {
        cri::status(socket).map_err(|reason| SystemError::Cri { socket: socket.to_owned(), reason })
    }

    fn pods(&self, socket: &str) -> Result<Vec<Pod>, SystemError> {
        cri::pods(socket).map_err(|reason| SystemError::Cri { socket: socket.to_owned(), reason })
    }

    fn try_out(&self, program: &Path, argument: &str, limit: Duration) -> Result<(), SystemError> {
        let mut command = Command::new(program);
        command.arg(argument).env_clear();
        // Where only root gets, only root can run it.
        if rustix::process::geteuid().is_root() && everybody_gets_to(program) {
            command.uid(NOBODY).gid(NOBODY);
        }
        finish(command, limit, TRIED_MAX).map(drop)
    }

    fn processes_below(&self, folder: &Path) -> Vec<Process> {
        processes::below(folder)
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// One paragraph of `systemctl show`; `None` if there is no such unit.
fn unit(paragraph: &str) -> Option<Unit> {
    let property = |name: &str| {
        let mut values = paragraph.lines().filter_map(|line| line.split_once('='));
        values.find(|(known, _)| *known == name).map(|(_, value)| value).unwrap_or_default()
    };
    let active = matches!(property("ActiveState"), "active" | "reloading");
    (property("LoadState") == "loaded").then(|| Unit {
        name: property("Id").to_owned(),
        enabled: property("UnitFileState").starts_with("enabled"),
        main_pid: property("MainPID").parse().ok().filter(|pid| *pid != 0 && active),
    })
}

fn everybody_gets_to(program: &Path) -> bool {
    let mut folders = program.ancestors().skip(1);
    folders.all(|folder| fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o001 != 0))
}
#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A script in a folder that everybody can enter.
    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("shim");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    fn tried(text: &str, limit: Duration) -> Result<(), String> {
        let (_folder, script) = script(text);
        let shown = script.display().to_string();
        Node::default().try_out(&script, "-v", limit).map_err(|error| error.to_string().replace(&shown, "shim"))
    }

    #[test]
    fn a_program_is_tried_out_as_nobody_with_nothing_to_read_and_nothing_in_its_environment() {
        let checks = "[ \"$1\" = -v ] && [ -z \"$HOME$LC_ALL\" ] && [ -z \"$(cat)\" ] && [ \"$PWD\" = / ] || exit 1";
        assert_eq!(tried(checks, LOOK), Ok(()));
        if rustix::process::geteuid().is_root() {
            assert_eq!(tried("[ \"$(id -u):$(id -g):$(id -G)\" = 65534:65534:65534 ]", LOOK), Ok(()));
        }
    }

    #[test]
    fn a_program_that_lacks_a_library_is_quoted() {
        let words = "echo 'shim: error while loading shared libraries: libx.so.1: cannot open shared object file' >&2; exit 127";
        let error = tried(words, LOOK).unwrap_err();
        assert_eq!(
            error,
            "`shim -v` failed: shim: error while loading shared libraries: libx.so.1: cannot open shared object file"
        );
    }

    #[test]
    fn a_program_that_hangs_ends_with_everything_it_started() {
        let error = tried("sleep 60 & sleep 60", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "`shim -v` failed: no end within 0 s");
    }

    #[test]
    fn a_program_that_never_stops_talking_is_listened_to_only_so_long() {
        let error = tried("while :; do echo yes; done", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error, "`shim -v` failed: no end within 0 s");
    }

    #[test]
    fn a_unit_that_is_not_there_is_none_and_one_that_does_not_run_has_no_process() {
        let shown = "Id=a.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nMainPID=0\n\n\
                     Id=b.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nMainPID=0\n";
        let units: Vec<Unit> = shown.split("\n\n").filter_map(unit).collect();
        assert_eq!(units, [Unit { name: "b.service".into(), enabled: true, main_pid: None }]);
    }
}
