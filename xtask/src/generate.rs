//! `cargo xtask generate`: the files that are made from the code and committed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::CustomResourceExt;
use kwasm_api::wasm_node::WasmNode;
use kwasm_api::wasm_runtime::WasmRuntime;
use serde_json::Value;

/// Where the CRDs are for people, and where helm looks for them.
const FOLDERS: [&str; 2] = ["crds", "charts/kwasm-operator/crds"];

const HEADER: &str = "# Generated from the crate kwasm-api by `cargo xtask generate`.\n";

/// Writes every generated file below `root`, the top of the repository; with `check`, only compares.
///
/// # Errors
/// If a file cannot be read or written, or, with `check`, differs from what the code says.
pub fn generate(root: &Path, check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in files()? {
        let file = root.join(&path);
        if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            write(&file, &text)?;
        }
    }
    if !stale.is_empty() {
        bail!("{} differ from the code: run `cargo xtask generate` and commit the result", stale.join(", "));
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Every generated file: its path below the repository and its text.
fn files() -> Result<Vec<(PathBuf, String)>> {
    let crds = [
        ("wasmnodes.yaml", serde_json::to_value(WasmNode::crd())?),
        ("wasmruntimes.yaml", serde_json::to_value(WasmRuntime::crd())?),
    ];
    let mut files = Vec::new();
    for (name, crd) in crds {
        let text = format!("{HEADER}{}", yaml(crd)?);
        for folder in FOLDERS {
            files.push((Path::new(folder).join(name), text.clone()));
        }
    }
    Ok(files)
}

/// A CRD as YAML, without the nulls that kube writes for what is not set.
fn yaml(mut crd: Value) -> Result<String> {
    drop_nulls(&mut crd);
    let text = serde_saphyr::to_string(&crd).context("write a CRD as YAML")?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_named_with_the_command_that_mends_it() {
        let root = Path::new("/nonexistent");
        let error = generate(root, true).unwrap_err().to_string();
        assert!(error.contains("crds/wasmnodes.yaml") && error.contains("cargo xtask generate"), "{error}");
    }

    #[test]
    fn the_chart_carries_the_same_bytes() {
        let files = files().unwrap();
        let text = |path: &str| files.iter().find(|(p, _)| p == Path::new(path)).map(|(_, text)| text.clone());
        assert_eq!(text("crds/wasmruntimes.yaml"), text("charts/kwasm-operator/crds/wasmruntimes.yaml"));
        assert!(text("crds/wasmruntimes.yaml").is_some());
    }
}
