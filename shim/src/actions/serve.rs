//! The running shim of a pod: one thread that answers containerd and watches the pod's processes.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use nix::sys::prctl::set_child_subreaper;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::command_line::CommandLine;
use crate::events::Events;
use crate::installation::Installation;
use crate::launch::Launcher;
use crate::log::Log;
use crate::reaper::Reaper;
use crate::service::TaskService;

/// The Task service's names: containerd up to 1.7 asks for the first, and 2.x for either. The messages are the same.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Serves until containerd's Shutdown of an empty shim; standard input is the listening socket.
///
/// # Errors
/// If it cannot be served.
pub(super) fn serve(line: &CommandLine) -> Result<()> {
    let listener = io::stdin().as_fd().try_clone_to_owned().map(UnixListener::from).context("taking the socket")?;
    set_child_subreaper(true).context("becoming the reaper of the pod's orphans")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the event loop")?;
    runtime.block_on(run(line, listener))?;
    runtime.shutdown_background();
    Ok(())
}

async fn run(line: &CommandLine, listener: UnixListener) -> Result<()> {
    let log = Arc::new(Log::open(Path::new("."), &line.id, line.debug));
    let installation = Installation::of_this_process().context("finding the runtime's programs")?;
    let reaper = Reaper::start().context("watching children")?;
    let address = std::env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", line.address));
    let events = Events::start(address, line.namespace.clone(), Arc::clone(&log));
    let cache = Cache::new(installation.compiler.clone(), reaper.clone());
    let launcher = Launcher { installation, reaper, cache, log: Arc::clone(&log) };
    let end = Arc::new(Notify::new());
    let service =
        TaskService::new(line.namespace.clone(), launcher, events.clone(), Arc::clone(&log), Arc::clone(&end));
    let service = Arc::new(service);
    let mut server = Server::new().add_listener(listener_of(listener)?);
    for name in SERVICES {
        let methods =
            create_task(Arc::new(service.as_ref().clone())).into_values().map(|methods| (name.to_owned(), methods));
        server = server.register_service(methods.collect());
    }
    server.start().await.context("serving")?;
    log.info("", format_args!("shim {} serves as process {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    end.notified().await;
    // Nobody may find a shim that is about to go.
    let _ = std::fs::remove_file(&line.socket);
    log.info("", "shim ends: the pod has no container left");
    events.flush(std::time::Duration::from_secs(5)).await;
    Ok(())
}

fn listener_of(listener: UnixListener) -> Result<Listener> {
    listener.set_nonblocking(true).context("preparing the socket")?;
    Ok(Listener::from(tokio::net::UnixListener::from_std(listener).context("preparing the socket")?))
}
