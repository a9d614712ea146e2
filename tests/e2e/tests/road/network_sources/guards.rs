//! What these tests change on a cluster, each undone when it is dropped: also if a test fails.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kwasm_e2e::road::Road;
use serde_json::{Value, json};

/// A WasmRuntime.
pub(super) struct Wanted<'a> {
    road: &'a Road,
    name: &'static str,
}

impl<'a> Wanted<'a> {
    /// Applies one.
    pub(super) fn apply(road: &'a Road, name: &'static str, spec: &Value) -> Result<Self> {
        let wanted = Self { road, name };
        wanted.apply_again(spec)?;
        Ok(wanted)
    }

    /// Applies it with this spec, and returns what kubectl said.
    pub(super) fn apply_again(&self, spec: &Value) -> Result<String> {
        let mut manifest = tempfile::Builder::new().suffix(".json").tempfile()?;
        let runtime = json!({
            "apiVersion": "kwasm.sh/v1alpha1",
            "kind": "WasmRuntime",
            "metadata": {"name": self.name},
            "spec": spec,
        });
        manifest.write_all(runtime.to_string().as_bytes())?;
        self.road.kubectl(&["apply", "-f", &manifest.path().to_string_lossy()])
    }
}

impl Drop for Wanted<'_> {
    /// It is gone when every node is rid of it.
    fn drop(&mut self) {
        let delete = ["delete", "wasmruntime", self.name, "--ignore-not-found", "--timeout=180s"];
        complain(self.road.kubectl(&delete).map(drop));
    }
}

/// An authority in every node's own list.
pub(super) struct Trust {
    before: Vec<(PathBuf, Vec<u8>)>,
}

impl Trust {
    /// Adds one to what each node has.
    pub(super) fn in_authority(road: &Road, certificate: &str) -> Result<Self> {
        let mut trust = Self { before: Vec::new() };
        for site in road.sites() {
            let list = site.path("/etc/ssl/certs/ca-certificates.crt");
            let before = fs::read(&list).with_context(|| list.display().to_string())?;
            let after = [before.as_slice(), certificate.as_bytes()].concat();
            trust.before.push((list.clone(), before));
            fs::write(&list, after)?;
        }
        Ok(trust)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        for (list, before) in &self.before {
            complain(fs::write(list, before).with_context(|| list.display().to_string()));
        }
    }
}

/// A pull secret beside the operator, named in the chart's values.
pub(super) struct PullSecret<'a> {
    road: &'a Road,
    name: &'static str,
}

impl<'a> PullSecret<'a> {
    /// Makes one of a file that registries' clients read, and names it.
    pub(super) fn of_chart(road: &'a Road, name: &'static str, login: &Path) -> Result<Self> {
        let secret = Self { road, name };
        let file = format!("--from-file=.dockerconfigjson={}", login.display());
        let kind = "--type=kubernetes.io/dockerconfigjson";
        road.kubectl(&["create", "secret", "generic", "-n", "kwasm", name, kind, &file])?;
        road.upgrade_with(&[&format!("imagePullSecrets[0].name={name}")])?;
        Ok(secret)
    }
}

impl Drop for PullSecret<'_> {
    fn drop(&mut self) {
        complain(self.road.upgrade());
        let delete = ["delete", "secret", "-n", "kwasm", self.name, "--ignore-not-found"];
        complain(self.road.kubectl(&delete).map(drop));
    }
}

fn complain(done: Result<()>) {
    if let Err(error) = done {
        eprintln!("the cluster is not as it was: {error:?}");
    }
}
