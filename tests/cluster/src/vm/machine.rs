//! A running machine.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::VmError;
use super::channel::{Channel, Problem, Request};
use super::console::Console;
use super::disk::{Disk, EMULATOR};
use super::emulator::Emulator;
use crate::session::{Session, WaitError};
use crate::tool;

/// How long a command may take unless said otherwise. An emulated processor is some ten times slower.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(120);
/// How long a boot may take: ten to thirty seconds when the machine has something else to do as well.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// How long the kernel may take of that before it starts process 1: some five seconds, thirty on a busy machine.
const KERNEL_LIMIT: Duration = Duration::from_secs(90);
/// Once in a hundred or more boots an emulated kernel stands still for good, without a word, before it starts process 1.
const STARTS: u32 = 3;
/// What the kernel says then (Linux' `run_init_process`), and nothing on the disk was asked for before.
const PROCESS_1: &str = "Run /sbin/init as init process";
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
/// How soon the emulator's end shows after it hung up.
const END_LIMIT: Duration = Duration::from_secs(10);
/// What `timeout` and a shell say of a command that was ended: by SIGTERM, by SIGKILL.
const ENDED: [i32; 2] = [124, 137];

/// Starts a program (from the second word on) only if its parent (the first) still is the one that asked for it: a
/// parent that is gone before its death is watched would leave the program behind.
const WHILE_PARENT_LIVES: &str = r#"[ "$PPID" = "$1" ] || exit 1; shift; exec "$@""#;

/// cgroup v2 only, no login prompts; a panic ends the emulator, which does not start again. On a busy machine an emulated
/// timer may be too slow for the kernel's own check of it. It tells all that it does: where it stands still, if it does.
const KERNEL_ARGUMENTS: &str = "root=/dev/nvme0n1 rw console=ttyS0 loglevel=7 panic=-1 mitigations=off no_timer_check \
                                systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all systemd.getty_auto=0 \
                                systemd.show_status=yes";

/// A virtual machine that runs. Dropping it is a power cut.
pub struct Machine {
    emulator: Emulator,
    channel: Mutex<Channel>,
    console: Console,
    session: Session,
}

impl Machine {
    /// Boots from a disk and waits until the machine takes commands, which it does early: other
    /// services may still be starting (`systemctl start containerd` waits for that one).
    ///
    /// # Errors
    /// When it does not boot, with the end of its console; when the disk is in use.
    pub fn boot(disk: &Disk, session: &Session) -> Result<Self, VmError> {
        let started = Instant::now();
        let mut starts = 1;
        loop {
            let machine = Self::switch_on(disk, session)?;
            match machine.greet() {
                Ok(()) => {
                    session.say(format!("virtual machine: up after {} s", started.elapsed().as_secs()));
                    return Ok(machine);
                }
                Err(Problem::TimedOut) if starts < STARTS && !machine.runs_process_1() => {
                    let last = tool::tail(&machine.console(), 1);
                    session.say(format!("virtual machine: its kernel stands still, starting it anew: {last}"));
                    starts += 1;
                }
                Err(problem) => return Err(machine.explain(problem, "boot", BOOT_LIMIT)),
            }
        }
    }

    fn switch_on(disk: &Disk, session: &Session) -> Result<Self, VmError> {
        let (ours, theirs) = UnixStream::pair().map_err(VmError::Emulator)?;
        let console = Console::new().map_err(VmError::Emulator)?;
        let mut command = command(disk, &console);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        command.stderr(console.output().map_err(VmError::Emulator)?);
        let emulator = Emulator::start(command).map_err(VmError::Emulator)?;
        let channel = Channel::new(ours, session).map_err(VmError::Emulator)?;
        Ok(Self { emulator, channel: Mutex::new(channel), console, session: session.clone() })
    }

    /// Waits for the agent, but only so long for a kernel that does not start process 1.
    fn greet(&self) -> Result<(), Problem> {
        let mut channel = self.channel();
        match channel.greet(KERNEL_LIMIT) {
            Err(Problem::TimedOut) if self.runs_process_1() => channel.greet(BOOT_LIMIT.saturating_sub(KERNEL_LIMIT)),
            greeting => greeting,
        }
    }

    fn runs_process_1(&self) -> bool {
        self.console().contains(PROCESS_1)
    }

    /// Runs a command, whatever its exit status, within [`DEFAULT_LIMIT`].
    ///
    /// # Errors
    /// When the machine does not answer, or the command takes too long.
    pub fn exec(&self, words: &[&str]) -> Result<Output, VmError> {
        self.exec_within(DEFAULT_LIMIT, words, &[])
    }

    /// Runs a command with this on its standard input. It is ended when the time (in whole seconds) is up;
    /// commands of several threads wait for each other.
    ///
    /// # Errors
    /// When the machine does not answer, or the command takes too long.
    pub fn exec_within(&self, limit: Duration, words: &[&str], input: &[u8]) -> Result<Output, VmError> {
        let request = Request { words, input, limit };
        let mut channel = self.channel();
        let started = Instant::now();
        let doing = || format!("run `{}`", words.join(" "));
        let output = channel.ask(&request).map_err(|problem| self.explain(problem, &doing(), limit))?;
        if started.elapsed() >= limit && output.status.code().is_some_and(|code| ENDED.contains(&code)) {
            return Err(VmError::TooSlow { command: words.join(" "), limit });
        }
        Ok(output)
    }

    /// Runs a command that must succeed and returns its standard output.
    ///
    /// # Errors
    /// When the machine does not answer, or the command fails.
    pub fn run(&self, words: &[&str]) -> Result<String, VmError> {
        successful(words, self.exec(words)?)
    }

    /// Writes a file, making the folders above it. It is on the disk for sure only after a `sync`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), VmError> {
        const SCRIPT: &str = r#"mkdir -p -- "$(dirname -- "$1")" && cat >"$1""#;
        let words = ["sh", "-c", SCRIPT, "write", path];
        successful(&words, self.exec_within(DEFAULT_LIMIT, &words, bytes)?).map(drop)
    }

    /// What the kernel and systemd printed since this boot.
    #[must_use]
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Cuts the power: everything that only was in the machine's memory is lost, its cache of files included.
    ///
    /// What its kernel had sent to the disk stays, synced or not, and in the order it was sent in: this
    /// machine goes on running and keeps it. A real disk with a cache of its own may lose more of what was not synced.
    pub fn power_cut(self) {
        drop(self);
    }

    /// Shuts down properly.
    ///
    /// # Errors
    /// When it does not; the power is cut then.
    pub fn shut_down(self) -> Result<(), VmError> {
        match self.exec(&["systemctl", "poweroff"]) {
            // It may be gone before the answer is out.
            Ok(_) | Err(VmError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        let timed_out = |error| match error {
            WaitError::Interrupted => VmError::Interrupted(error),
            WaitError::TimedOut { limit, .. } => self.explain(Problem::TimedOut, "shut down", limit),
        };
        let status = self.emulator.wait(SHUTDOWN_LIMIT, &self.session).map_err(timed_out)?;
        if status.success() {
            return Ok(());
        }
        Err(VmError::Ended { doing: "shut down".to_owned(), status, console: self.console.tail() })
    }

    fn channel(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, problem: Problem, doing: &str, limit: Duration) -> VmError {
        let (doing, console) = (doing.to_owned(), || self.console.tail());
        match problem {
            Problem::Interrupted(error) => VmError::Interrupted(error),
            Problem::Garbled(line) => VmError::Garbled(line),
            Problem::Socket(error) => VmError::Emulator(error),
            Problem::TimedOut => VmError::Silent { doing, limit, console: console() },
            Problem::Closed => match self.emulator.wait(END_LIMIT, &self.session) {
                Ok(status) => VmError::Ended { doing, status, console: console() },
                Err(_) => VmError::Unreachable { doing },
            },
        }
    }
}

fn successful(words: &[&str], output: Output) -> Result<String, VmError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = tool::tail(&String::from_utf8_lossy(&said), 20);
    Err(VmError::CommandFailed { command: words.join(" "), status: output.status, said })
}

/// The emulator's command line. Its standard input is its end of the channel.
fn command(disk: &Disk, console: &Console) -> Command {
    let mut command = tool::bound_command("sh", ["-c", WHILE_PARENT_LIVES, "sh"]);
    // Nice, because emulating takes all the processor there is.
    command.arg(std::process::id().to_string()).args(["nice", "-n", "5", EMULATOR]);
    // No KVM: where a machine is nested, it may be there and yet not boot a stock kernel.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1500", "-smp", "1"]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.arg("-kernel").arg(disk.kernel()).args(["-append", KERNEL_ARGUMENTS]);
    // A write is done when this machine's kernel has it; a flush reaches this machine's disk.
    let file = disk.path();
    command.args(["-drive", &format!("if=none,id=disk,format=raw,cache=writeback,file={}", file.display())]);
    command.args(["-device", "nvme,drive=disk,serial=disk"]);
    command.args(["-chardev", "socket,id=agent,fd=0", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=agent,name=agent"]);
    command.args(["-chardev", &format!("file,id=console,append=on,path={}", console.path())]);
    command.args(["-serial", "chardev:console"]);
    command
}
