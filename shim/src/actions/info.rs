//! What the shim tells about itself.

use std::io::{self, Write};

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// The name containerd shows for this runtime.
const NAME: &str = "io.containerd.wasmtime.v1";

/// Prints the version for people (`-v`).
pub(super) fn print_version() {
    println!(
        "containerd-shim-wasmtime-v1:\n  Version:  {}\n  Revision: {}",
        env!("CARGO_PKG_VERSION"),
        compiler_revision()
    );
}

/// Prints a `RuntimeInfo` message for containerd 2.2 and later (`-info`).
///
/// # Errors
/// If standard output is closed.
pub(super) fn print_info() -> anyhow::Result<()> {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: compiler_revision().to_owned(),
        ..RuntimeVersion::default()
    };
    let info = RuntimeInfo { name: NAME.to_owned(), version: MessageField::some(version), ..RuntimeInfo::default() };
    Ok(io::stdout().write_all(&info.write_to_bytes()?)?)
}

fn compiler_revision() -> &'static str {
    kwasm_shim_protocol::artefact::COMPILER_REVISION
}
