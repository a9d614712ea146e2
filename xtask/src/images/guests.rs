//! Compiling the guests.

use std::path::{Path, PathBuf};
use std::process::Command;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use super::catalogue::GUESTS;
use super::{Image, ImageError};
use crate::{command, paths};

/// The Go package in the image's folder, as a WASI preview 1 module.
pub(super) fn go(image: &'static Image, to: &Path) -> Result<(), ImageError> {
    let mut go = Command::new("go");
    go.current_dir(image.folder()).env("GOOS", "wasip1").env("GOARCH", "wasm");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(to).arg(".");
    run(image, &mut go)
}

/// A C source, as a WASI preview 1 module. The system root is Debian's `wasi-libc`.
pub(super) fn c(image: &'static Image, source: &str, to: &Path) -> Result<(), ImageError> {
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-O2", "-Wall", "-Wextra", "-Werror", "-Wl,--strip-all"]);
    run(image, clang.arg("-o").arg(to).arg(path(source)))
}

/// A C source, as a WASI preview 2 command component: a module in Wasmtime's command adapter.
pub(super) fn component(image: &'static Image, source: &str, to: &Path) -> Result<(), ImageError> {
    c(image, source, to)?;
    let module = std::fs::read(to).map_err(ImageError::file(image.name, to))?;
    let component = encode(&module).map_err(|reason| ImageError::Component {
        image: image.name,
        module: path(source),
        reason: format!("{reason:#}"),
    })?;
    std::fs::write(to, component).map_err(ImageError::file(image.name, to))
}

/// A C source, as a static Linux program.
pub(super) fn linux(image: &'static Image, source: &str, to: &Path) -> Result<(), ImageError> {
    let mut clang = Command::new("clang");
    clang.args(["-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-o"]);
    run(image, clang.arg(to).arg(path(source)))
}

fn run(image: &'static Image, command: &mut Command) -> Result<(), ImageError> {
    command::read(command).map(drop).map_err(ImageError::command(image.name))
}

fn path(source: &str) -> PathBuf {
    paths::root().join(GUESTS).join(source)
}

fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()
}
