//! The command line.

mod answer;
mod arguments;
mod asked;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use kwasm_api::order::ORDER_ENV;

use self::answer::Answer;
use self::arguments::{Cli, Do, Options};
use crate::artifacts::available;
use crate::artifacts::client::Limits;
use crate::artifacts::network::Network;
use crate::failure::{Reason, Stop};
use crate::host::lock;
use crate::host::node::Node;
use crate::host::{Files, enter};
use crate::observe::{Host, Settings};
use crate::run::{carry_out, prepare};
use crate::status::Status;
use crate::target::{Target, TargetError};

/// As clap ends the program.
const WRONG_COMMAND_LINE: u8 = 2;

/// What must be opened or read before the node is entered.
struct Prelude {
    order: Option<Result<Target, TargetError>>,
    report: Option<File>,
    settings: Settings,
    /// The bundled runtimes there are.
    names: Vec<String>,
    // Keeps the image's folder reachable through /proc/self/fd.
    _bundle: Option<File>,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    // A directory has its mode from the moment it is there, whoever started this program.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Do::Apply { order: None, dry_run: false });
    if !rustix::process::geteuid().is_root() {
        eprintln!("kwasm-installer: only root can look at a node and change it: run this with sudo");
        return ExitCode::from(WRONG_COMMAND_LINE);
    }
    let (mut prelude, inside) = match prelude(&command, &cli.options) {
        Ok(prelude) => prelude,
        Err(error) => {
            eprintln!("kwasm-installer: {error}");
            return ExitCode::from(WRONG_COMMAND_LINE);
        }
    };
    let answer = match inside {
        Err(stop) => Answer::refused(stop),
        Ok(()) => dispatch(&command, &prelude),
    };
    answer.finish(cli.options.output, prelude.report.as_mut())
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
    let names = available(&options.bundled_dir);
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
        network: Network::of_this_process(),
        limits: Limits::default(),
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

fn dispatch(command: &Do, prelude: &Prelude) -> Answer {
    let started = Instant::now();
    // Whoever reads this may stop: that is no reason to stop halfway.
    let progress = |line: &str| drop(writeln!(io::stderr(), "[{:6.2} s] {line}", started.elapsed().as_secs_f64()));
    let waiting = || progress("another kwasm-installer is working on this node: waiting for it");
    let host = Host { files: Files::below("/"), system: Box::new(Node::default()) };
    let _lock = match lock::take(&host.files, prelude.settings.lock_patience, waiting) {
        Ok(lock) => lock,
        Err(error) => return Answer::refused(Stop::unchanged("lock the node", error.reason(), error)),
    };
    let settings = &prelude.settings;
    let target = match asked::target(command, prelude, &host) {
        Ok(Some(target)) => target,
        Ok(None) => return Answer::NothingToRecover,
        Err(stop) => return Answer::refused(stop),
    };
    match command {
        Do::Plan { .. }
        | Do::Apply { dry_run: true, .. }
        | Do::Install { dry_run: true, .. }
        | Do::Uninstall { dry_run: true, .. } => match prepare(&host, settings, &target) {
            Ok(prepared) => Answer::Plan(Box::new(prepared)),
            Err((stop, _)) => Answer::refused(stop),
        },
        Do::Status | Do::Verify => match prepare(&host, settings, &target) {
            Ok(prepared) => Answer::Status(Status::of(&prepared, &target), matches!(command, Do::Verify)),
            Err((stop, _)) => Answer::refused(stop),
        },
        Do::Apply { .. } | Do::Install { .. } | Do::Uninstall { .. } | Do::Recover => {
            let (report, stop) = carry_out(&host, settings, &target, &progress);
            Answer::Report(report, stop)
        }
    }
}
