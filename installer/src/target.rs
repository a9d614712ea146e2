//! What the node should have: an Order, validated once, in types that cannot be wrong.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use kwasm_api::Order;
use kwasm_api::runtime::{Runtime, RuntimeKind, Source};

use crate::artifacts::remote::{Remote, RemoteError};

/// All runtimes that the node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Digest of the Order; empty where there was none.
    pub order: String,
    /// The runtimes, in the order of their names.
    pub runtimes: Vec<Wanted>,
}

/// One runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As the Order has it.
    pub runtime: Runtime,
    /// Where its binary comes from.
    pub source: WantedSource,
}

/// Where a binary comes from, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedSource {
    /// Name of a folder of the bundle.
    Bundle(String),
    /// A path on the node.
    Host(PathBuf),
    /// It is fetched.
    Remote(Remote),
    /// Nothing is installed.
    Preinstalled,
}

/// Why an Order is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It cannot be read.
    #[error("the Order cannot be read: {0}")]
    Unreadable(String),
    /// A name that could leave its folder or break a configuration.
    #[error("{what} `{value}` is not a name of 1 to 63 lower-case letters, digits and hyphens")]
    Name {
        /// Which name.
        what: &'static str,
        /// As given.
        value: String,
    },
    /// Two runtimes want the same.
    #[error("two runtimes have the {what} `{value}`")]
    Twice {
        /// What they share.
        what: &'static str,
        /// As given.
        value: String,
    },
    /// A path that is not plain and absolute.
    #[error("runtime {runtime}: `{path}` is not an absolute path without `..`")]
    Path {
        /// The runtime's name.
        runtime: String,
        /// As given.
        path: String,
    },
    /// A source that cannot be fetched from.
    #[error("runtime {runtime}: {error}")]
    Remote {
        /// The runtime's name.
        runtime: String,
        /// What is wrong with it.
        error: RemoteError,
    },
}

impl Target {
    /// Reads and validates an Order.
    ///
    /// # Errors
    /// If anything about it is not acceptable.
    pub fn from_json(json: &str) -> Result<Self, TargetError> {
        let order = Order::from_json(json).map_err(|error| TargetError::Unreadable(error.to_string()))?;
        let target = Self::from_order(&order)?;
        Ok(Self { order: Order::digest_of(json), ..target })
    }

    /// Validates an Order.
    ///
    /// # Errors
    /// If anything about it is not acceptable.
    pub fn from_order(order: &Order) -> Result<Self, TargetError> {
        let mut target = Self::from_runtimes(&order.runtimes)?;
        target.order = order.digest();
        Ok(target)
    }

    /// Validates runtimes.
    ///
    /// # Errors
    /// If anything about them is not acceptable.
    pub fn from_runtimes(runtimes: &[Runtime]) -> Result<Self, TargetError> {
        let mut wanted = runtimes.iter().map(Wanted::from_runtime).collect::<Result<Vec<_>, _>>()?;
        wanted.sort_by(|a, b| a.runtime.name.cmp(&b.runtime.name));
        let mut folders: BTreeMap<&str, bool> = BTreeMap::new();
        for runtime in &wanted {
            let Some(folder) = runtime.artifact() else { continue };
            let fetched = matches!(runtime.source, WantedSource::Remote(_));
            // Several runtimes can share a bundle, but what is fetched is one runtime's own.
            if folders.insert(folder, fetched).is_some_and(|before| before || fetched) {
                return Err(TargetError::Twice { what: "folder", value: folder.to_owned() });
            }
        }
        let mut seen = BTreeMap::new();
        for runtime in wanted.iter().map(|wanted| &wanted.runtime) {
            for (what, value) in [("name", &runtime.name), ("handler", &runtime.handler)] {
                if seen.insert((what, value.clone()), ()).is_some() {
                    return Err(TargetError::Twice { what, value: value.clone() });
                }
            }
        }
        Ok(Self { order: String::new(), runtimes: wanted })
    }
}

impl Wanted {
    fn from_runtime(runtime: &Runtime) -> Result<Self, TargetError> {
        name("name", &runtime.name)?;
        name("handler", &runtime.handler)?;
        let refused = |error| TargetError::Remote { runtime: runtime.name.clone(), error };
        let source = match &runtime.source {
            Source::Bundled(bundle) => {
                let bundle = bundle.name.as_ref().unwrap_or(&runtime.name);
                name("bundle", bundle)?;
                WantedSource::Bundle(bundle.clone())
            }
            Source::Host(host) => WantedSource::Host(plain_path(&runtime.name, &host.path)?),
            Source::Preinstalled(_) => WantedSource::Preinstalled,
            Source::Http(http) => WantedSource::Remote(Remote::http(http).map_err(refused)?),
            Source::Image(image) => WantedSource::Remote(Remote::image(image).map_err(refused)?),
        };
        Ok(Self { runtime: runtime.clone(), source })
    }

    /// The name of its artifact, if it has one.
    #[must_use]
    pub fn artifact(&self) -> Option<&str> {
        match &self.source {
            WantedSource::Bundle(name) => Some(name),
            WantedSource::Remote(_) => Some(&self.runtime.name),
            WantedSource::Host(_) | WantedSource::Preinstalled => None,
        }
    }

    /// Whether it is an earlier runtime or a newer version of it, so that it can take its pods over.
    #[must_use]
    pub fn succeeds(&self, earlier: &Runtime) -> bool {
        let Ok(earlier) = Self::from_runtime(earlier) else { return false };
        let same = match earlier.artifact() {
            Some(artifact) => self.artifact() == Some(artifact),
            None => self.runtime.name == earlier.runtime.name || self.source == earlier.source,
        };
        same && self.runtime.kind == earlier.runtime.kind
    }

    /// Whether it runs under `io.containerd.runc.v2`.
    #[must_use]
    pub fn is_oci(&self) -> bool {
        self.runtime.kind == RuntimeKind::Oci
    }
}

fn name(what: &'static str, value: &str) -> Result<(), TargetError> {
    let letters = value.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let fits = (1..=63).contains(&value.len()) && !value.starts_with('-') && !value.ends_with('-');
    if letters && fits { Ok(()) } else { Err(TargetError::Name { what, value: value.to_owned() }) }
}

fn plain_path(runtime: &str, path: &str) -> Result<PathBuf, TargetError> {
    if is_plain(Path::new(path)) && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err(TargetError::Path { runtime: runtime.to_owned(), path: path.to_owned() })
    }
}

/// Whether a path is absolute, without `..`, and not `/` itself.
#[must_use]
pub fn is_plain(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && plain && path.parent().is_some()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn order(runtimes: &str) -> String {
        format!(r#"{{"version": 1, "node": "n", "runtimes": [{runtimes}]}}"#)
    }

    #[rstest]
    #[case::not_json("", "the Order cannot be read: EOF while parsing a value at line 1 column 0")]
    #[case::version(
        r#"{"version": 2, "node": "n", "runtimes": []}"#,
        "the Order cannot be read: this Order has version 2; this program understands version 1: use an installer image of the operator's release at line 1 column 13"
    )]
    #[case::name(
        &order(r#"{"name": "../x", "handler": "x", "revision": "", "source": {"bundled": {}}}"#),
        "name `../x` is not a name of 1 to 63 lower-case letters, digits and hyphens"
    )]
    #[case::handler(
        &order(r#"{"name": "x", "handler": "a\"]b", "revision": "", "source": {"bundled": {}}}"#),
        "handler `a\"]b` is not a name of 1 to 63 lower-case letters, digits and hyphens"
    )]
    #[case::bundle(
        &order(r#"{"name": "x", "handler": "x", "revision": "", "source": {"bundled": {"name": ".."}}}"#),
        "bundle `..` is not a name of 1 to 63 lower-case letters, digits and hyphens"
    )]
    #[case::twice(
        &order(r#"{"name": "a", "handler": "x", "revision": "", "source": {"bundled": {}}}, {"name": "b", "handler": "x", "revision": "", "source": {"bundled": {}}}"#),
        "two runtimes have the handler `x`"
    )]
    #[case::path(
        &order(r#"{"name": "x", "handler": "x", "revision": "", "source": {"host": {"path": "/usr/../crun"}}}"#),
        "runtime x: `/usr/../crun` is not an absolute path without `..`"
    )]
    #[case::http(
        &order(r#"{"name": "x", "handler": "x", "revision": "", "source": {"http": {"artifacts": []}}}"#),
        &format!("runtime x: there is no artifact for {}; there is: none", crate::artifacts::remote::platform())
    )]
    #[case::image(
        &order(r#"{"name": "x", "handler": "x", "revision": "", "source": {"image": {"reference": "r", "path": "/x"}}}"#),
        "runtime x: the image `r` needs a digest, as in `registry.example/shim@sha256:…`"
    )]
    #[case::shared_folder(
        &order(&format!(r#"{{"name": "a", "handler": "a", "revision": "", "source": {{"bundled": {{"name": "b"}}}}}}, {{"name": "b", "handler": "b", "revision": "", "source": {{"image": {{"reference": "x@sha256:{}", "path": "/x"}}}}}}"#, "0".repeat(64))),
        "two runtimes have the folder `b`"
    )]
    fn an_order_that_cannot_be_carried_out_is_refused(#[case] json: &str, #[case] message: &str) {
        assert_eq!(Target::from_json(json).unwrap_err().to_string(), message);
    }

    #[test]
    fn a_newer_operator_finds_its_own_order_in_the_report() {
        let json = r#"{"version": 1, "node": "n", "runtimes": [], "later": true}"#;
        assert_eq!(Target::from_json(json).unwrap().order, Order::digest_of(json));
        let own = Order::new("n", Vec::new());
        assert_eq!(Target::from_json(&own.to_json()).unwrap().order, own.digest());
    }

    #[test]
    fn a_bundle_is_named_after_its_runtime_unless_it_says_otherwise() {
        let one = order(r#"{"name": "a", "handler": "a", "revision": "", "source": {"bundled": {}}}"#);
        let two = order(r#"{"name": "a", "handler": "a", "revision": "", "source": {"bundled": {"name": "b"}}}"#);
        let sources = [one, two].map(|json| Target::from_json(&json).unwrap().runtimes[0].source.clone());
        assert_eq!(sources, [WantedSource::Bundle("a".into()), WantedSource::Bundle("b".into())]);
    }
}
