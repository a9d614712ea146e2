//! Where things are.

use std::path::{Path, PathBuf};

/// The top folder of the project: the one that this program was built from.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// What is kept from one run to the next, outside of the checkout: `KWASM_CACHE`, or `~/.cache/kwasm`.
#[must_use]
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    std::env::var_os("KWASM_CACHE").map_or_else(|| home().join(".cache/kwasm"), PathBuf::from)
}
