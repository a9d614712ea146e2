//! Names of compiled modules in the node's cache.

/// What compiled code depends on besides the module: the version of Wasmtime, and a number of ours that
/// goes up when the compiler's settings change. A different name never meets an older artefact.
pub const COMPILER_REVISION: &str = "wasmtime-48.0.8-1";

/// The file name of the artefact of the module with this SHA-256 (lower-case hex).
#[must_use]
pub fn file_name(sha256: &str) -> String {
    format!("{sha256}.{COMPILER_REVISION}.cwasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_names_the_locked_version_of_wasmtime() {
        let lock = include_str!("../../../Cargo.lock");
        let (_, rest) = lock.split_once("name = \"wasmtime\"\nversion = \"").expect("wasmtime is locked");
        let (version, _) = rest.split_once('"').expect("a quoted version");
        assert!(
            COMPILER_REVISION.starts_with(&format!("wasmtime-{version}-")),
            "wasmtime is {version}: set COMPILER_REVISION"
        );
    }

    #[test]
    fn an_artefact_is_named_after_its_module_and_its_compiler() {
        assert_eq!(file_name("ab"), "ab.wasmtime-48.0.8-1.cwasm");
    }
}
