//! The command line.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use kwasm_api::Report;
use kwasm_api::order::ORDER_ENV;
use kwasm_api::report::RuntimeState;
use kwasm_api::runtime::{Bundled, Runtime, RuntimeKind, Source};

use crate::artifacts::available;
use crate::failure::{Reason, Stop};
use crate::host::lock::{self, LOCK};
use crate::host::node::Node;
use crate::host::{Files, enter};
use crate::ledger::Ledger;
use crate::observe::{Host, Settings};
use crate::render;
use crate::run::{carry_out, prepare, refused};
use crate::target::{Target, TargetError};

/// Installs WebAssembly runtimes on a node and takes them away again.
///
/// The node's containerd loads every new configuration before it counts. After a restart CRI must answer and
/// serve the runtimes, or the old files come back. Uninstalling returns every file byte for byte.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Do>,
    #[command(flatten)]
    options: Options,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the node is as it should be
  2  the command line is wrong
  3  not done; the node is unchanged
  4  not done; what was changed has been undone and containerd works
  5  not done, and undoing did not succeed: somebody should look";

#[derive(Debug, Subcommand)]
enum Do {
    /// Bring the node to an Order: what it does not name is removed. The default, as a Job runs it.
    Apply {
        /// The Order: a file, or - for standard input. Without it, the environment's KWASM_ORDER.
        #[arg(long, value_name = "FILE")]
        order: Option<PathBuf>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print what `apply` would do, as steps and as a diff; change nothing.
    Plan {
        /// The Order: a file, or - for standard input. Without it, the environment's KWASM_ORDER.
        #[arg(long, value_name = "FILE")]
        order: Option<PathBuf>,
    },
    /// Add bundled runtimes to those that are on the node: all of the bundle if none is named.
    Install {
        /// Names of bundled runtimes, such as wasmtime.
        names: Vec<String>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove runtimes: all if none is named.
    Uninstall {
        /// Names of runtimes.
        names: Vec<String>,
        /// Print what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is on the node and whether it is as it should be.
    Status,
}

#[derive(Args, Debug)]
struct Options {
    /// Where the node's / is mounted; / on the node itself. Elsewhere the pod needs hostPID and privileged.
    #[arg(long, global = true, env = "NODE_ROOT", default_value = "/", value_name = "DIR")]
    node_root: PathBuf,
    /// Bundled runtimes: a folder for each.
    #[arg(long, global = true, default_value = "/bundled", value_name = "DIR")]
    bundled_dir: PathBuf,
    /// Where binaries go on the node [default: /opt/kwasm, or /var/lib/kwasm if that takes no programs].
    #[arg(long, global = true, env = "KWASM_INSTALL_DIR", value_name = "DIR")]
    install_dir: Option<PathBuf>,
    /// Write the Report, one line of JSON, to this file.
    #[arg(long, global = true, env = "KWASM_REPORT", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Remove a runtime's configuration although containers of it run; their binaries stay until they end.
    #[arg(long, global = true)]
    force: bool,
    /// Seconds to wait for another installer on this node.
    #[arg(long, global = true, default_value_t = 300, value_name = "SECONDS")]
    lock_timeout: u64,
    /// Seconds that CRI may take after a restart.
    #[arg(long, global = true, default_value_t = 90, value_name = "SECONDS")]
    cri_timeout: u64,
}

/// What must be opened or read before the node is entered.
struct Prelude {
    order: Option<Result<Target, TargetError>>,
    report: Option<File>,
    settings: Settings,
    names: Vec<String>,
    // Keeps the image's folder reachable through /proc/self/fd.
    _bundle: Option<File>,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Do::Apply { order: None, dry_run: false });
    let (mut prelude, inside) = match prelude(&command, &cli.options) {
        Ok(prelude) => prelude,
        Err(error) => {
            eprintln!("kwasm-installer: {error}");
            return ExitCode::from(2);
        }
    };
    let (report, stop) = match inside {
        Err(stop) => refused(stop),
        Ok(()) => dispatch(&command, &prelude),
    };
    finish(&report, stop.as_ref(), prelude.report.as_mut())
}

fn prelude(command: &Do, options: &Options) -> io::Result<(Prelude, Result<(), Stop>)> {
    let order = match command {
        Do::Apply { order, .. } | Do::Plan { order } => Some(Target::from_json(&order_text(order.as_deref())?)),
        _ => None,
    };
    let report = match &options.report {
        Some(path) => Some(
            File::options().create(true).write(true).truncate(true).open(path).map_err(|error| named(path, &error))?,
        ),
        None => None,
    };
    let mut names = available(&options.bundled_dir);
    names.sort();
    let outside = options.node_root != Path::new("/");
    let opened = outside.then(|| File::open(&options.bundled_dir).ok()).flatten();
    let bundle = opened.as_ref().map_or_else(
        || options.bundled_dir.clone(),
        |folder| PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())),
    );
    let settings = Settings {
        bundle,
        install_dir: options.install_dir.clone(),
        force: options.force,
        lock_patience: Duration::from_secs(options.lock_timeout),
        cri_patience: Duration::from_secs(options.cri_timeout),
    };
    let inside = if outside { enter::enter(&options.node_root) } else { Ok(()) };
    let inside = inside.map_err(|error| Stop::unchanged("enter the node", Reason::NodeNotReachable, error));
    Ok((Prelude { order, report, settings, names, _bundle: opened }, inside))
}

fn order_text(path: Option<&Path>) -> io::Result<String> {
    match path {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(text)
        }
        Some(path) => std::fs::read_to_string(path).map_err(|error| named(path, &error)),
        None => std::env::var(ORDER_ENV)
            .map_err(|_| io::Error::other(format!("no Order: give --order FILE, or set {ORDER_ENV} (see --help)"))),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn dispatch(command: &Do, prelude: &Prelude) -> (Report, Option<Stop>) {
    let started = Instant::now();
    let progress = |line: &str| eprintln!("[{:6.2} s] {line}", started.elapsed().as_secs_f64());
    let waiting = || progress("another kwasm-installer is working on this node: waiting for it");
    let _lock = match lock::take(Path::new(LOCK), prelude.settings.lock_patience, waiting) {
        Ok(lock) => lock,
        Err(error) => return refused(Stop::unchanged("lock the node", Reason::NodeBusy, error)),
    };
    let host = Host { files: Files::below("/"), system: Box::new(Node::default()) };
    let target = match target(command, prelude, &host) {
        Ok(target) => target,
        Err(stop) => return refused(stop),
    };
    match command {
        Do::Apply { dry_run: true, .. }
        | Do::Install { dry_run: true, .. }
        | Do::Uninstall { dry_run: true, .. }
        | Do::Plan { .. } => show(&host, &prelude.settings, &target),
        Do::Status => status(&host, &prelude.settings, &target),
        Do::Apply { .. } | Do::Install { .. } | Do::Uninstall { .. } => {
            carry_out(&host, &prelude.settings, &target, &progress)
        }
    }
}

/// What the command asks for, as the whole that the node should have.
fn target(command: &Do, prelude: &Prelude, host: &Host) -> Result<Target, Stop> {
    let on_node = || -> Result<Vec<Runtime>, Stop> {
        let ledger = Ledger::read(&host.files)
            .map_err(|error| Stop::unchanged("read the ledger", Reason::LedgerNotReadable, error))?;
        Ok(ledger.map(|ledger| ledger.current.runtimes).unwrap_or_default())
    };
    let unknown = |words: String| Stop::unchanged("read the command line", Reason::InvalidOrder, words);
    let target = match command {
        Do::Apply { .. } | Do::Plan { .. } => match &prelude.order {
            Some(order) => order.clone(),
            None => Ok(Target::default()),
        },
        Do::Status => Target::from_runtimes(&on_node()?),
        Do::Install { names, .. } => {
            let mut runtimes = on_node()?;
            let names = if names.is_empty() { &prelude.names } else { names };
            if names.is_empty() {
                return Err(unknown(format!("the bundle {} is empty", prelude.settings.bundle.display())));
            }
            runtimes.retain(|runtime| !names.contains(&runtime.name));
            runtimes.extend(names.iter().map(|name| bundled(name)));
            Target::from_runtimes(&runtimes)
        }
        Do::Uninstall { names, .. } => {
            let mut runtimes = on_node()?;
            if let Some(name) = names.iter().find(|name| !runtimes.iter().any(|runtime| runtime.name == **name)) {
                return Err(unknown(format!("there is no runtime `{name}` of ours on this node")));
            }
            runtimes.retain(|runtime| !names.is_empty() && !names.contains(&runtime.name));
            Target::from_runtimes(&runtimes)
        }
    };
    target.map_err(|error| {
        let reason = match error {
            TargetError::Source { .. } => Reason::SourceNotSupported,
            _ => Reason::InvalidOrder,
        };
        Stop::unchanged("read the Order", reason, error)
    })
}

fn bundled(name: &str) -> Runtime {
    Runtime {
        name: name.to_owned(),
        handler: name.to_owned(),
        revision: String::new(),
        kind: RuntimeKind::Shim,
        source: Source::Bundled(Bundled::default()),
        options: std::collections::BTreeMap::new(),
        pod_annotations: Vec::new(),
    }
    .revise()
}

fn show(host: &Host, settings: &Settings, target: &Target) -> (Report, Option<Stop>) {
    match prepare(host, settings, target) {
        Ok(prepared) => {
            print!("{}", render::plan(&prepared.observed, &prepared.plan));
            (Report { version: 1, order: target.order.clone(), ..Report::default() }, None)
        }
        Err((stop, _)) => refused(stop),
    }
}

fn status(host: &Host, settings: &Settings, target: &Target) -> (Report, Option<Stop>) {
    let answer = show(host, settings, target);
    for wanted in &target.runtimes {
        println!("{} (handler {}, revision {})", wanted.runtime.name, wanted.runtime.handler, wanted.runtime.revision);
    }
    if target.runtimes.is_empty() {
        println!("no runtime of ours is on this node");
    }
    answer
}

fn finish(report: &Report, stop: Option<&Stop>, file: Option<&mut File>) -> ExitCode {
    for runtime in &report.runtimes {
        let state = match runtime.state {
            RuntimeState::Ready => "ready",
            RuntimeState::Removed => "removed",
            RuntimeState::Failed => "failed",
        };
        let path = runtime.path.as_deref().map(|path| format!(", {path}")).unwrap_or_default();
        println!("{}: {state} (handler {}{path})", runtime.name, runtime.handler);
    }
    if let Some(Err(error)) = file.map(|file| file.write_all(report.to_json().as_bytes())) {
        eprintln!("kwasm-installer: cannot write the Report: {error}");
    }
    let Some(stop) = stop else { return ExitCode::SUCCESS };
    eprintln!("kwasm-installer: {stop}\nThe node: {:?}. What to do: {}.", stop.state, stop.remedy);
    ExitCode::from(stop.exit_code())
}
