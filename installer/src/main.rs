//! The program that installs WebAssembly runtimes on a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    kwasm_installer::cli::main()
}
