//! The borders between the pieces, as cargo sees them: what a program must never carry.

use xtask::command::{self, CommandError, cargo};

/// Every crate that is linked into a package when it is built alone, as images build it.
fn linked_into(package: &str) -> Result<Vec<String>, CommandError> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--offline", "--package", package]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{lib}"]);
    let crates = command::read(&mut tree)?;
    // What was listed before is listed again with a mark behind it.
    Ok(crates.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Those of `crates` that are linked into a package.
fn among(crates: &[&str], package: &str) -> Result<Vec<String>, CommandError> {
    let mut linked = linked_into(package)?;
    linked.retain(|linked| crates.contains(&linked.as_str()));
    Ok(linked)
}

#[test]
fn the_engine_carries_no_compiler() {
    assert!(among(&["cranelift_codegen", "wasmtime_internal_cranelift", "wat"], "wasmtime-engine").unwrap().is_empty());
}

#[test]
fn the_compiler_carries_one() {
    assert!(!among(&["cranelift_codegen"], "wasmtime-compiler").unwrap().is_empty());
}

#[test]
fn the_shim_carries_neither_an_engine_nor_kubernetes() {
    assert!(among(&["wasmtime", "k8s_openapi", "kube"], "containerd-shim-wasmtime").unwrap().is_empty());
}

#[test]
fn the_installer_knows_no_kubernetes() {
    assert!(among(&["k8s_openapi", "kube"], "kwasm-installer").unwrap().is_empty());
}

#[test]
fn the_api_has_no_client_and_no_tokio() {
    assert!(among(&["kube_client", "tokio", "hyper"], "kwasm-api").unwrap().is_empty());
}

#[test]
fn the_installer_has_the_operators_tls_and_no_other() {
    assert_eq!(among(&["ring", "aws_lc_rs", "openssl", "native_tls"], "kwasm-installer").unwrap(), ["ring"]);
}
