//! From the command line to the guest's exit code.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use kwasm_shim_protocol::control::{Answer, Command, ReceiveError, receive, send};
use kwasm_shim_protocol::engine::{EXIT_ENGINE, EngineArgs};
use wasmtime::{Config, Engine, Store};

use crate::artefact::{self, LoadError};
use crate::guest::Guest;
use crate::instance::{self, Linked};
use crate::outcome::Outcome;
use crate::signals;

/// Prepares the guest, waits for the shim's word, runs the guest and returns its exit code.
///
/// # Errors
/// If the shim could not be told, or is gone.
pub(crate) fn run(args: EngineArgs) -> Result<u8, String> {
    let (control, artefact) = inherited(&args);
    let program = args.guest.first().cloned().unwrap_or_default();
    let prepared = match prepare(artefact, args) {
        Ok(prepared) => prepared,
        Err(answer) => {
            // The shim tells it where a pod's events are read; the container's log stays the guest's.
            send(&control, &answer).map_err(|error| format!("telling the shim {answer:?}: {error}"))?;
            return Ok(EXIT_ENGINE);
        }
    };
    send(&control, &Answer::Ready).map_err(|error| format!("telling the shim: {error}"))?;
    match receive(&control) {
        Ok(Command::Go) => drop(control),
        Ok(other) => return Err(format!("{other:?} instead of the word to start")),
        // The shim is gone, and its container with it.
        Err(ReceiveError::Closed) => return Ok(137),
        Err(error) => return Err(error.to_string()),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("starting the event loop: {error}"))?;
    let outcome = Outcome::of(runtime.block_on(prepared.linked.run(prepared.store)), &program);
    if let Outcome::Trapped(report) = &outcome {
        eprintln!("{report}");
    }
    // A guest may have left a thread reading its input: the process ends without waiting for it.
    runtime.shutdown_background();
    Ok(outcome.exit_code())
}

struct Prepared {
    linked: Linked,
    store: Store<Guest>,
}

fn prepare(artefact: File, args: EngineArgs) -> Result<Prepared, Answer> {
    let failed = |message: String| Answer::Failed { message };
    signals::end_the_process().map_err(|error| failed(format!("installing signal handlers: {error}")))?;
    let engine = Engine::new(&Config::new()).map_err(|error| failed(format!("starting the engine: {error:#}")))?;
    let artefact = artefact::load(&engine, artefact).map_err(|error| match error {
        LoadError::Incompatible(reason) => Answer::Incompatible { reason },
        LoadError::Read(_) => failed(error.to_string()),
    })?;
    let linked = instance::link(&engine, &artefact, args.function).map_err(|error| failed(format!("{error:#}")))?;
    let guest = Guest::new(&args.guest).map_err(|error| failed(format!("opening the container's root: {error:#}")))?;
    Ok(Prepared { linked, store: Store::new(&engine, guest) })
}

#[allow(unsafe_code, reason = "descriptors that were inherited by number")]
fn inherited(args: &EngineArgs) -> (UnixStream, File) {
    // SAFETY: `init` keeps exactly these two descriptors open over its `exec` and names each once; nothing
    // else in this process owns them.
    let (control, artefact) = unsafe { (OwnedFd::from_raw_fd(args.control), OwnedFd::from_raw_fd(args.artefact)) };
    (UnixStream::from(control), File::from(artefact))
}
