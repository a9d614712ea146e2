//! A virtual machine shows what nested nodes cannot: cgroup v2 alone, and a power cut.
//!
//! Booting takes most of the time: the tests share one machine, one after the other, which a test that
//! fails does not give back.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kwasm_test_cluster::vm::{Disk, Machine, VmError};
use kwasm_test_cluster::{ProcessId, Session, pieces};

const IMAGE: &str = "registry.k8s.io/pause:3.10";
/// A multiple of the page size: the kernel rounds others down.
const MEMORY_LIMIT: &str = "16777216";

/// An emulator's threads: its first one, one that cleans up, and one for each of two processors.
const THREADS: usize = 4;

struct Shared {
    disk: Disk,
    machine: Option<Machine>,
}

/// Runs a test on a machine that is up; the test gives it back as long as it still is.
fn with_machine(test: impl FnOnce(&Disk, Machine) -> Option<Machine>) {
    static SHARED: Mutex<Option<Shared>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = shared.get_or_insert_with(|| Shared { disk: disk(), machine: None });
    let machine = shared.machine.take().unwrap_or_else(|| boot(&shared.disk));
    shared.machine = test(&shared.disk, machine);
}

fn disk() -> Disk {
    Disk::new(&Session::to_stderr()).expect("a disk")
}

fn boot(disk: &Disk) -> Machine {
    Machine::boot(disk, &Session::to_stderr()).expect("a machine")
}

fn run(machine: &Machine, words: &[&str]) -> String {
    machine.run(words).expect("a command that succeeds").trim().to_owned()
}

#[test]
fn a_virtual_machine_with_cgroup_v2_only_runs_a_runc_container() {
    with_machine(|_, machine| {
        assert_eq!(run(&machine, &["stat", "-fc", "%T", "/sys/fs/cgroup"]), "cgroup2fs");
        let mounts = ["findmnt", "--noheadings", "--output", "FSTYPE", "--types", "cgroup,cgroup2"];
        assert_eq!(run(&machine, &mounts), "cgroup2");

        let pause = pieces::pause(&Session::to_stderr()).expect("the pause image");
        machine.write("/root/images/pause.tar", &std::fs::read(pause).expect("its archive")).expect("a file");
        run(&machine, &["systemctl", "start", "containerd"]);
        run(&machine, &["ctr", "images", "import", "/root/images/pause.tar"]);
        run(&machine, &["ctr", "run", "--detach", "--memory-limit", MEMORY_LIMIT, IMAGE, "paused"]);

        let group = "/sys/fs/cgroup/default/paused";
        assert_eq!(run(&machine, &["cat", &format!("{group}/memory.max")]), MEMORY_LIMIT);
        let process = run(&machine, &["cat", &format!("{group}/cgroup.procs")]);
        assert_eq!(run(&machine, &["readlink", &format!("/proc/{process}/exe")]), "/pause");
        run(&machine, &["ctr", "task", "delete", "--force", "paused"]);
        Some(machine)
    });
}

#[test]
fn after_a_power_cut_it_boots_again_from_the_same_disk_and_what_was_synced_is_there() {
    with_machine(|disk, machine| {
        let boot_id = |machine: &Machine| run(machine, &["cat", "/proc/sys/kernel/random/boot_id"]);
        let first = boot_id(&machine);
        machine.write("/root/synced", b"kept").expect("a file");
        run(&machine, &["sync", "/root/synced"]);
        machine.write("/root/cached", b"lost").expect("a file");
        machine.power_cut();

        let machine = boot(disk);
        assert_ne!(boot_id(&machine), first);
        assert_eq!(run(&machine, &["cat", "/root/synced"]), "kept");
        // It may have a name, but the kernel keeps contents for half a minute before it writes them.
        assert_eq!(machine.exec(&["cat", "/root/cached"]).expect("an answer").stdout, b"");
        machine.shut_down().expect("to shut down");
        None
    });
}

#[test]
fn a_command_keeps_its_words_its_exit_status_and_both_outputs_and_ends_when_its_time_is_up() {
    with_machine(|disk, machine| {
        let input: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let words = ["sh", "-c", r#"cat; printf %s "$1" >&2; exit 3"#, "sh", "it's $HOME"];
        let output = machine.exec_within(Duration::from_secs(60), &words, &input).expect("an answer");
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
        assert_eq!(output.stderr, b"it's $HOME");

        let late = machine.exec_within(Duration::from_secs(1), &["sleep", "1000"], &[]);
        assert!(matches!(late, Err(VmError::TooSlow { .. })), "{late:?}");
        let failed = machine.run(&["ls", "/nowhere"]).expect_err("there is no such folder").to_string();
        assert!(failed.contains("No such file or directory"), "{failed}");

        let second = Machine::boot(disk, &Session::silent()).err().expect("the disk is in use").to_string();
        assert!(second.contains("Failed to get \"write\" lock"), "{second}");
        Some(machine)
    });
}

#[test]
fn a_machine_is_gone_when_whoever_started_it_is_killed() {
    const NAME: &str = "a_machine_is_gone_when_whoever_started_it_is_killed";
    const ROLE: &str = "KWASM_TEST_STARTS_A_MACHINE";
    if std::env::var_os(ROLE).is_some() {
        // Killed while it waits for the machine to boot.
        boot(&disk());
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let mut starter = Command::new(own)
        .args(["--exact", NAME])
        .env(ROLE, "")
        .stdout(Stdio::null())
        .spawn()
        .expect("this program again");
    let wait = |what: &str, look: &mut dyn FnMut() -> Option<ProcessId>| {
        let look = || look().ok_or_else(|| "not yet".to_owned());
        Session::silent().wait(what, Duration::from_secs(300), look).expect(what)
    };
    let emulator = wait("an emulator", &mut || emulator_of(starter.id()));
    starter.kill().expect("a kill");
    starter.wait().expect("its end");
    wait("the emulator's end", &mut || (!emulator.is_alive()).then(|| emulator.clone()));
}

/// The emulator that a process started, once it has a thread for each processor: before, it ends for
/// want of the files it is to open.
fn emulator_of(parent: u32) -> Option<ProcessId> {
    let processes = std::fs::read_dir("/proc").expect("processes");
    let emulator = processes.flatten().map(|entry| entry.path()).find(|process| {
        let started = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let exe = std::fs::read_link(process.join("exe")).unwrap_or_default();
        let threads = std::fs::read_dir(process.join("task")).map_or(0, Iterator::count);
        exe.ends_with("qemu-system-x86_64")
            && threads >= THREADS
            && started.lines().any(|line| line == format!("PPid:\t{parent}"))
    });
    ProcessId::of(emulator?.file_name()?.to_str()?.parse().ok()?)
}
