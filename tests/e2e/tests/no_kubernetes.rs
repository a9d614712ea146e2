//! Machines without Kubernetes: the shim under containerd alone, and under Docker.
//!
//! A test for each machine, because booting it and compiling the module take most of the time.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod machine;

use std::process::Output;
use std::time::Duration;

use kwasm_test_cluster::Session;
use kwasm_test_cluster::vm::Disk;
use machine::Host;

const IMAGE: &str = "/root/wasi-demo-app.tar";
const RUNTIME: &str = "--runtime=io.containerd.wasmtime.v1";
const MODULE: &str = "/wasi-demo-app.wasm";
/// The first run of a module compiles it: a second on a processor, more than a minute on an emulated one.
const FIRST_RUN: Duration = Duration::from_secs(400);
/// `config.toml` as Docker's own package of containerd has it.
const DOCKERS_CONFIG: &str = "disabled_plugins = [\"cri\"]\n";

/// Everything that a container may leave behind: processes, sockets and folders of shims, mounts, cgroups, networks.
const LEFT: &str = "pgrep --list-full 'wasmtime|shim'
find /run/containerd/s /run/docker/containerd -mindepth 1 2>/dev/null
find /run/containerd/io.containerd.runtime.v2.task -mindepth 2 2>/dev/null
findmnt --noheadings --raw --output TARGET --types overlay,nsfs
find /sys/fs/cgroup -type d | grep -e '/default/' -e 'docker-'
ls /sys/class/net
true";

fn exec(host: &Host, words: &[&str], input: &[u8]) -> Ending {
    host.machine.exec_within(FIRST_RUN, words, input).expect("an answer").into()
}

/// What containers left, compared with before them.
fn assert_nothing_is_left(host: &Host, before: &str) {
    let look = || {
        let left = left(host);
        if left == before { Ok(()) } else { Err(left) }
    };
    // The last shim ends a moment after its container.
    let waited = Session::silent().wait("nothing to be left", Duration::from_secs(60), look);
    waited.expect("nothing is left");
}

fn left(host: &Host) -> String {
    host.run(&["sh", "-c", LEFT])
}

/// How a container ended.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ending {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ending {
    fn is(code: i32, stdout: &str, stderr: &str) -> Self {
        Self { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }
}

#[test]
fn ctr_runs_a_module_on_a_machine_with_containerd_alone() {
    let disk = Disk::new(&Session::to_stderr()).expect("a disk");
    let host = Host::boot(&disk);
    host.unpack_installer();
    host.installer("install");
    let image = host.put("wasi-demo-app", IMAGE);
    host.run(&["ctr", "images", "import", IMAGE]);
    let before = left(&host);
    let ctr_with_input = |words: &[&str], input: &[u8]| -> Ending {
        let line = [&["ctr", "run", "--rm", RUNTIME, &image, "demo", MODULE], words].concat();
        exec(&host, &line, input)
    };
    let ctr = |words: &[&str]| ctr_with_input(words, &[]);

    assert_eq!(ctr(&["echo", "hello"]), Ending::is(0, "hello\n", ""));
    assert_eq!(ctr(&["stderr", "hello"]), Ending::is(0, "", "hello\n"));
    assert_eq!(ctr(&["exit", "3"]).code, Some(3));
    assert_eq!(ctr_with_input(&["stdin"], b"typed\n"), Ending::is(0, "typed\n", ""));
    assert_nothing_is_left(&host, &before);

    host.run(&["ctr", "run", "--detach", RUNTIME, &image, "demo"]);
    host.run(&["ctr", "tasks", "kill", "--signal", "SIGTERM", "demo"]);
    let stopped = || if host.run(&["ctr", "tasks", "ls"]).contains("STOPPED") { Ok(()) } else { Err(String::new()) };
    Session::silent().wait("the task to stop", Duration::from_secs(60), stopped).expect("it stops");
    host.run(&["ctr", "tasks", "rm", "demo"]);
    host.run(&["ctr", "containers", "rm", "demo"]);
    assert_nothing_is_left(&host, &before);
    host.machine.shut_down().expect("to shut down");
}

#[test]
fn docker_runs_the_same_module_with_the_same_shim_and_its_networks_limits_and_volumes() {
    let disk = Disk::with_docker(&Session::to_stderr()).expect("a disk");
    let host = Host::boot(&disk);
    host.machine.write("/etc/containerd/config.toml", DOCKERS_CONFIG.as_bytes()).expect("a file");
    host.unpack_installer();
    host.run(&["systemctl", "start", "docker"]);
    let docker_since = host.run(&["systemctl", "show", "--property=ExecMainPID", "docker", "containerd"]);
    host.installer("install");
    assert_eq!(host.run(&["cat", "/etc/containerd/config.toml"]), DOCKERS_CONFIG, "Docker's configuration is its own");
    assert_eq!(host.run(&["systemctl", "show", "--property=ExecMainPID", "docker", "containerd"]), docker_since);
    load(&host);
    let before = left(&host);

    prints_and_exits(&host);
    has_its_surroundings(&host);
    assert_nothing_is_left(&host, &before);

    is_connected_limited_and_stopped(&host);
    assert_nothing_is_left(&host, &before);

    host.run(&["rm", IMAGE]);
    host.installer("uninstall");
    let refused = docker(&host, &[], &["echo", "hello"]);
    // 125 or 127: a containerd that ran the shim before remembers where it was.
    assert!(refused.code != Some(0) && refused.stderr.contains("containerd-shim-wasmtime-v1"), "{refused:?}");
    host.machine.shut_down().expect("to shut down");
}

/// Docker's own store takes no OCI archive, and containerd's export is both.
fn load(host: &Host) {
    let image = host.put("wasi-demo-app", IMAGE);
    host.run(&["ctr", "images", "import", IMAGE]);
    host.run(&[
        "sh",
        "-c",
        r#"set -e; ctr images export - "$1" >/root/both.tar; docker load -i /root/both.tar"#,
        "sh",
        &image,
    ]);
}

fn docker(host: &Host, options: &[&str], words: &[&str]) -> Ending {
    docker_with_input(host, options, words, &[])
}

fn docker_with_input(host: &Host, options: &[&str], words: &[&str], input: &[u8]) -> Ending {
    let line = [&["docker", "run", "--rm", RUNTIME], options, &["wasi-demo-app", MODULE], words].concat();
    exec(host, &line, input)
}

fn prints_and_exits(host: &Host) {
    assert_eq!(docker(host, &["--network=none"], &["echo", "hello"]), Ending::is(0, "hello\n", ""));
    assert_eq!(docker(host, &[], &["stderr", "hello"]), Ending::is(0, "", "hello\n"));
    assert_eq!(docker_with_input(host, &["--interactive"], &["stdin"], b"typed\n"), Ending::is(0, "typed\n", ""));
    assert_eq!(docker(host, &[], &["exit", "3"]).code, Some(3));
    let missing = docker(host, &["--entrypoint=/missing.wasm"], &[]);
    assert!(missing.code == Some(127) && missing.stderr.contains("/missing.wasm"), "{missing:?}");
    let terminal = docker(host, &["--tty"], &["echo", "hello"]);
    assert!(terminal.code == Some(125) && terminal.stderr.contains("has no terminal"), "{terminal:?}");
}

fn has_its_surroundings(host: &Host) {
    let volume = ["--volume=/root/data:/data", "--env=GREETING=hello"];
    assert_eq!(docker(host, &volume, &["write", "/data/file", "from the module"]).code, Some(0));
    assert_eq!(host.run(&["cat", "/root/data/file"]), "from the module");
    let environment = docker(host, &volume, &["env"]).stdout;
    assert!(environment.lines().any(|line| line == "GREETING=hello"), "{environment}");
    let hosts = docker(host, &["--hostname=wasm", "--read-only", "--user=1000:1000"], &["read", "/etc/hosts"]).stdout;
    assert!(hosts.lines().any(|line| line.ends_with("\twasm")), "{hosts}");
}

fn is_connected_limited_and_stopped(host: &Host) {
    host.run(&["docker", "run", "--detach", "--name=demo", "--memory=64m", RUNTIME, "wasi-demo-app"]);
    let inspect = |what: &str| host.run(&["docker", "inspect", "--format", what, "demo"]).trim().to_owned();
    let (pid, address) = (inspect("{{.State.Pid}}"), inspect("{{.NetworkSettings.IPAddress}}"));
    let addresses = host.run(&["nsenter", "--net", "--target", &pid, "ip", "-oneline", "address"]);
    assert!(!address.is_empty() && addresses.contains(&format!(" {address}/")), "{address}: {addresses}");
    let group = host.run(&["cut", "-d:", "-f3", &format!("/proc/{pid}/cgroup")]);
    let limit = host.run(&["cat", &format!("/sys/fs/cgroup{}/memory.max", group.trim())]);
    assert_eq!(limit.trim(), "67108864");
    let logged = || if host.run(&["docker", "logs", "demo"]).is_empty() { Err(String::new()) } else { Ok(()) };
    Session::silent().wait("a line of the log", Duration::from_secs(60), logged).expect("it logs");

    host.run(&["docker", "stop", "demo"]);
    assert_eq!(inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 143", "stopped by SIGTERM, not by SIGKILL");
    host.run(&["docker", "start", "demo"]);
    host.run(&["docker", "kill", "demo"]);
    assert_eq!(host.run(&["docker", "wait", "demo"]).trim(), "137");
    host.run(&["docker", "rm", "demo"]);
}
