//! Compiles WebAssembly modules and components to native code, once per node.
//!
//! A filter: the module (binary or text) comes on standard input, the artefact goes to standard output, and what went wrong
//! to standard error. The shim starts it in an empty folder, opens the files and decides where the artefact goes, so
//! that this process, which reads what strangers wrote, needs no rights at all: see [`confinement`].

mod compile;
mod confinement;

use std::io::{self, Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    confinement::enter().map_err(|error| error.to_string())?;
    let mut module = Vec::new();
    io::stdin().read_to_end(&mut module).map_err(|error| format!("reading the module: {error}"))?;
    let artefact = compile::artefact(&module).map_err(|error| format!("{error:#}"))?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&artefact).and_then(|()| stdout.flush()).map_err(|error| format!("writing the artefact: {error}"))
}
