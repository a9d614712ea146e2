//! The project's own programs, built for release.

use std::path::PathBuf;

use serde_json::Value;

use super::ImageError;
use crate::command::{self, cargo};

/// Builds one program and tells where it is.
pub(super) fn release(image: &'static str, package: &'static str, binary: &'static str) -> Result<PathBuf, ImageError> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", package, "--bin", binary]);
    build.arg("--message-format=json-render-diagnostics");
    let messages = command::read_showing_messages(&mut build).map_err(ImageError::command(image))?;
    executable(&messages, binary).ok_or(ImageError::NoProgram { image, package, binary })
}

/// Where cargo says that a program is.
fn executable(messages: &str, binary: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == binary)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_program_is_the_one_that_cargo_tells() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"shim"},"executable":"/target/release/shim"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "shim"), Some("/target/release/shim".into()));
        assert_eq!(executable(messages, "serde"), None);
    }
}
