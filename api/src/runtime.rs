//! A runtime as a node should have it: the part that Orders and Kubernetes objects share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One runtime that a node should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Name of the `WasmRuntime`.
    pub name: String,
    /// The handler in the container runtime's configuration, which a RuntimeClass names.
    pub handler: String,
    /// Identifies everything else in this entry: see [`Runtime::revise`].
    pub revision: String,
    /// How containerd starts it.
    #[serde(default)]
    pub kind: RuntimeKind,
    /// Where its binary comes from.
    pub source: Source,
    /// Options of the handler, written to its `options` table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionValue>,
    /// Pod annotations that containerd hands to the runtime (`pod_annotations`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_annotations: Vec<String>,
}

impl Runtime {
    /// Sets the revision: the first 10 hexadecimal digits of the SHA-256 of all other fields.
    #[must_use]
    pub fn revise(mut self) -> Self {
        self.revision.clear();
        self.revision = digest(&self)[..10].to_owned();
        self
    }
}

/// How containerd starts a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum RuntimeKind {
    /// A binary that speaks the shim v2 protocol.
    #[default]
    Shim,
    /// An OCI runtime with runc's command line, run by `io.containerd.runc.v2` (`options.BinaryName`).
    #[serde(rename = "OCI")]
    Oci,
}

/// Where a runtime's binary comes from: exactly one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Carried by the installer's image.
    Bundled(Bundled),
    /// Fetched over HTTP.
    Http(Http),
    /// A file of a container image.
    Image(Image),
    /// Already on the node: only registered.
    Host(Host),
    /// The node serves the handler already: only published.
    Preinstalled(Preinstalled),
}

/// Carried by the installer's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct Bundled {
    /// The bundle's name; the runtime's if absent. One bundle can serve several handlers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The node serves the handler already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct Preinstalled {}

/// Fetched over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct Http {
    /// One artifact for each platform.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 16)))]
    pub artifacts: Vec<HttpArtifact>,
}

/// The artifact of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct HttpArtifact {
    /// `os/architecture` as in OCI images, such as `linux/amd64`.
    #[cfg_attr(
        feature = "kubernetes",
        schemars(length(max = 64), regex(pattern = r"^[a-z0-9]+/[a-z0-9_.]+(/[a-z0-9_.]+)?$"))
    )]
    pub platform: String,
    /// `http` or `https`, without credentials. It serves an ELF binary or a tar archive, which may be compressed with
    /// gzip or zstd and holds exactly one `containerd-shim-…` (kind `OCI`: one executable), at any depth.
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 2048), regex(pattern = r"^https?://[^/@?#]+(/.*)?$")))]
    pub url: String,
    /// SHA-256 of what the URL serves, in 64 hexadecimal digits.
    #[cfg_attr(feature = "kubernetes", schemars(regex(pattern = r"^[0-9a-fA-F]{64}$")))]
    pub sha256: String,
}

/// A file of a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct Image {
    /// With a digest, such as `registry.example/shim@sha256:…`.
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 512), regex(pattern = r"^[^@ ]+@sha256:[0-9a-f]{64}$")))]
    pub reference: String,
    /// Absolute path of a regular file inside the image.
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 1024), regex(pattern = r"^/.+$")))]
    pub path: String,
}

/// Already on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct Host {
    /// Absolute path on the node.
    pub path: String,
}

/// A value of the handler's `options` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML integer.
    Integer(i64),
    /// A TOML string.
    String(String),
    /// A TOML array of strings.
    Strings(Vec<String>),
}

/// Lower-case hexadecimal SHA-256 of a value's JSON.
pub(crate) fn digest<T: Serialize>(value: &T) -> String {
    // Serialising these types cannot fail: every map key is a string.
    sha256(&serde_json::to_vec(value).unwrap_or_default())
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(feature = "kubernetes")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Bundled, Host, Http, Image, OptionValue, Preinstalled, Source};

    /// The schema of [`Source`] as Kubernetes wants it: plain properties and one rule with a message,
    /// instead of a `oneOf` whose error no user understands.
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct SourceProperties {
        /// Carried by the installer's image.
        bundled: Option<Bundled>,
        /// Fetched over HTTP.
        http: Option<Http>,
        /// A file of a container image.
        image: Option<Image>,
        /// Already on the node: only registered.
        host: Option<Host>,
        /// The node serves the handler already: only published.
        preinstalled: Option<Preinstalled>,
    }

    impl JsonSchema for Source {
        fn schema_name() -> Cow<'static, str> {
            "Source".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let mut schema = SourceProperties::json_schema(generator);
            schema.insert(
                "x-kubernetes-validations".to_owned(),
                serde_json::json!([{
                    "rule": "[has(self.bundled), has(self.http), has(self.image), has(self.host), has(self.preinstalled)].filter(x, x).size() == 1",
                    "message": "a runtime has exactly one source: bundled, http, image, host or preinstalled",
                }]),
            );
            schema.insert("description".to_owned(), "Where the runtime's binary comes from: exactly one key.".into());
            schema
        }
    }

    impl JsonSchema for OptionValue {
        fn schema_name() -> Cow<'static, str> {
            "OptionValue".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            // A structural schema has one type or none. Without one each keyword binds only the values it is about: no
            // object has both at least one and at most no property, no fraction is a multiple of 1.
            json_schema!({
                "description": "A boolean, an integer, a string or a list of strings.",
                "x-kubernetes-preserve-unknown-fields": true,
                "items": {"type": "string"},
                "minProperties": 1,
                "maxProperties": 0,
                "multipleOf": 1,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasmtime() -> Runtime {
        Runtime {
            name: "wasmtime".into(),
            handler: "wasmtime".into(),
            revision: String::new(),
            kind: RuntimeKind::Shim,
            source: Source::Bundled(Bundled::default()),
            options: BTreeMap::new(),
            pod_annotations: Vec::new(),
        }
    }

    #[test]
    fn a_revision_does_not_depend_on_the_revision_before() {
        let first = wasmtime().revise();
        assert_eq!(first.clone().revise(), first);
    }

    #[test]
    fn a_revision_changes_with_an_option() {
        let mut other = wasmtime();
        other.options.insert("SystemdCgroup".into(), OptionValue::Boolean(true));
        assert_ne!(other.revise().revision, wasmtime().revise().revision);
    }

    #[test]
    fn two_sources_are_refused() {
        let json = r#"{"bundled": {}, "host": {"path": "/usr/bin/crun"}}"#;
        assert!(serde_json::from_str::<Source>(json).is_err());
    }
}
