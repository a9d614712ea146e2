//! What the kernel knows of a compiler that waits for its module.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the kernel and a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell that starts a compiler in an empty folder, as a shim does, and tells its number.
struct Parent {
    shell: Child,
    compiler: u32,
    _folder: tempfile::TempDir,
}

impl Parent {
    fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut shell = Command::new("sh");
        // The input stays open and empty: the compiler waits for its module. A background process has none unless it is given.
        shell.args(["-c", "exec 3<&0; \"$0\" <&3 3<&- & echo $!; wait", env!("CARGO_BIN_EXE_wasmtime-compiler")]);
        shell.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut shell = shell.spawn()?;
        let mut line = String::new();
        BufReader::new(shell.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
        Ok(Self { shell, compiler: line.trim().parse().map_err(io::Error::other)?, _folder: folder })
    }

    fn of_compiler(&self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.compiler)).ok()
    }

    fn compiler_is_confined(&self) -> bool {
        self.of_compiler("status").is_some_and(|status| status.contains("NoNewPrivs:\t1"))
    }

    fn compiler_is_gone(&self) -> bool {
        self.of_compiler("stat").is_none_or(|stat| stat.contains(") Z "))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn it_goes_first_when_memory_is_short() {
    let parent = Parent::start().unwrap();
    until("the confinement", || parent.compiler_is_confined());
    assert_eq!(parent.of_compiler("oom_score_adj").as_deref(), Some("1000\n"));
}

#[test]
fn it_ends_with_the_shim() {
    let mut parent = Parent::start().unwrap();
    until("the confinement", || parent.compiler_is_confined());
    parent.shell.kill().unwrap();
    until("the compiler's end", || parent.compiler_is_gone());
}
