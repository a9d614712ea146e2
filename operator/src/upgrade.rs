//! `kwasm-operator upgrade-crds`: makes the CRDs those of this version. helm installs a chart's CRDs and never
//! upgrades them; `helm upgrade` runs this before anything else.

use anyhow::{Context, Result, anyhow};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use kwasm_api::names::FIELD_MANAGER;
use kwasm_api::wasm_node::WasmNode;
use kwasm_api::wasm_runtime::WasmRuntime;
use tracing::info;

/// Others write to a CRD only its status, when it changes: nobody is faster so often.
const TRIES: usize = 5;

/// Replaces the specs of both CRDs.
///
/// # Errors
/// If one does not exist, or the API server refuses.
pub(crate) async fn run() -> Result<()> {
    let client = Client::try_default().await.context("find the API server")?;
    let crds = Api::all(client);
    for wanted in [WasmNode::crd(), WasmRuntime::crd()] {
        let name = wanted.name_any();
        replace(&crds, &wanted).await.with_context(|| format!("upgrade the CRD {name}"))?;
        info!("the CRD {name} is that of version {}", env!("CARGO_PKG_VERSION"));
    }
    Ok(())
}

/// Applying would keep what an older version had and this one has not: helm, who wrote it, still owns it.
async fn replace(crds: &Api<CustomResourceDefinition>, wanted: &CustomResourceDefinition) -> Result<()> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let name = wanted.name_any();
    for _ in 0..TRIES {
        let found = crds.get_opt(&name).await?;
        let found = found.ok_or_else(|| anyhow!("it does not exist: `helm show crds CHART | kubectl apply -f -`"))?;
        match crds.replace(&name, &params, &with_spec_of(found, wanted)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            other => return Ok(other.map(drop)?),
        }
    }
    Err(anyhow!("somebody else changed it {TRIES} times meanwhile"))
}

/// What others said of the CRD stays, and so does its resource version: it refuses to overwrite what was not seen.
fn with_spec_of(mut found: CustomResourceDefinition, wanted: &CustomResourceDefinition) -> CustomResourceDefinition {
    found.spec = wanted.spec.clone();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_this_version_has_not_goes_and_labels_stay() {
        let mut old = WasmRuntime::crd();
        old.metadata.resource_version = Some("7".to_owned());
        old.metadata.labels = Some([("owner".to_owned(), "helm".to_owned())].into());
        let schema = old.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut()).unwrap();
        properties.insert("gone".to_owned(), Default::default());
        let upgraded = with_spec_of(old.clone(), &WasmRuntime::crd());
        assert_eq!((upgraded.metadata, upgraded.spec), (old.metadata, WasmRuntime::crd().spec));
    }
}
