//! The process of one WebAssembly container: Wasmtime without a compiler.
//!
//! The shim's `init` has prepared everything (namespaces, root, user, limits) and became this program by `exec`.
//! The road: [`artefact`] loads the compiled module, [`instance`] links it with WASI, the shim says go, the guest runs, and
//! [`outcome`] turns its end into an exit code.

mod artefact;
mod guest;
mod instance;
mod outcome;
mod signals;
mod start;

use std::process::ExitCode;

use kwasm_shim_protocol::engine::{EXIT_ENGINE, EngineArgs};

fn main() -> ExitCode {
    let run = EngineArgs::parse(std::env::args().skip(1)).map_err(|error| error.to_string()).and_then(start::run);
    match run {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("wasmtime-engine: {message}");
            ExitCode::from(EXIT_ENGINE)
        }
    }
}
