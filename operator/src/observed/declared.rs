//! A WasmRuntime as the API server has it, which may be of another version of KWasm.

use std::borrow::Cow;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kwasm_api::wasm_runtime::{WasmRuntime, WasmRuntimeStatus};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A WasmRuntime, or what can be read of it: one bad object must not stop a watch, and its user must hear of it.
#[derive(Clone, Debug)]
pub(crate) struct Declared(pub(crate) Result<WasmRuntime, Box<Unreadable>>);

/// What is left of a WasmRuntime that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub(crate) metadata: ObjectMeta,
    /// As it was, or nothing if that cannot be read either.
    pub(crate) status: WasmRuntimeStatus,
    /// Why it cannot be read.
    pub(crate) error: String,
}

impl<'de> Deserialize<'de> for Declared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let error = match WasmRuntime::deserialize(&value) {
            Ok(runtime) => return Ok(Self(Ok(runtime))),
            Err(error) => error.to_string(),
        };
        let metadata = ObjectMeta::deserialize(&value["metadata"]).map_err(D::Error::custom)?;
        let status = WasmRuntimeStatus::deserialize(&value["status"]).unwrap_or_default();
        Ok(Self(Err(Box::new(Unreadable { metadata, status, error }))))
    }
}

impl Resource for Declared {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        WasmRuntime::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        WasmRuntime::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        WasmRuntime::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        WasmRuntime::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(runtime) => runtime.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(runtime) => runtime.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_another_version_keeps_its_name_and_its_status() {
        let declared: Declared = serde_json::from_value(json!({
            "apiVersion": "kwasm.sh/v1alpha1",
            "kind": "WasmRuntime",
            "metadata": {"name": "w"},
            "spec": {"source": {"bundled": {}}, "options": {"a": {"b": 1}}},
            "status": {"handler": "w"},
        }))
        .unwrap();
        assert_eq!(declared.meta().name.as_deref(), Some("w"));
        let unreadable = declared.0.unwrap_err();
        assert_eq!(unreadable.status.handler.as_deref(), Some("w"));
        assert!(unreadable.error.contains("OptionValue"), "{}", unreadable.error);
    }
}
