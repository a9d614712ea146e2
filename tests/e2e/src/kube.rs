//! A blocking client that waits on conditions.

use std::fmt::Debug;
use std::future::ready;
use std::path::Path;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use kwasm_test_cluster::Session;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

/// The namespace that tests work in.
pub const NAMESPACE: &str = "default";

/// An object that a client can read and write.
pub trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
}

/// How often a waiting test looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// A blocking client.
pub struct Kube {
    runtime: Runtime,
    client: Client,
    session: Session,
}

impl Kube {
    /// Connects as the kubeconfig says. Waits end early when the session is interrupted.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn connect(kubeconfig: &Path, session: Session) -> Result<Self> {
        let runtime = Runtime::new()?;
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig)?;
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client, session })
    }

    /// Objects without a namespace.
    #[must_use]
    pub fn all<K: Object>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Objects of [`NAMESPACE`].
    #[must_use]
    pub fn namespaced<K: Object + Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Reads an object, if it exists.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn get<K: Object>(&self, api: &Api<K>, name: &str) -> Result<Option<K>> {
        Ok(self.runtime.block_on(api.get_opt(name))?)
    }

    /// All objects, or those with the labels.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn list<K: Object>(&self, api: &Api<K>, labels: &str) -> Result<Vec<K>> {
        Ok(self.runtime.block_on(api.list(&ListParams::default().labels(labels)))?.items)
    }

    /// Makes an object.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn create<K: Object>(&self, api: &Api<K>, object: &K) -> Result<K> {
        let name = object.name_any();
        self.runtime.block_on(api.create(&PostParams::default(), object)).with_context(|| format!("creating {name}"))
    }

    /// Merges a patch into an object.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn patch<K: Object>(&self, api: &Api<K>, name: &str, patch: &serde_json::Value) -> Result<K> {
        Ok(self.runtime.block_on(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)))?)
    }

    /// Deletes an object and waits until it is gone.
    ///
    /// # Errors
    /// If it is still there after `within`.
    pub fn delete<K: Object>(&self, api: &Api<K>, name: &str, within: Duration) -> Result<()> {
        self.runtime.block_on(api.delete(name, &DeleteParams::default()))?;
        self.until_gone(api, name, within)
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// If it is still there after `within`.
    pub fn until_gone<K: Object>(&self, api: &Api<K>, name: &str, within: Duration) -> Result<()> {
        self.wait(api, name, within, "to be gone", |object: Option<&K>| object.is_none()).map(drop)
    }

    /// Waits until an object exists and satisfies a condition, and returns it.
    ///
    /// # Errors
    /// If it does not after `within`; the error shows the object as it is then.
    pub fn until<K: Object>(
        &self,
        api: &Api<K>,
        name: &str,
        within: Duration,
        expectation: &str,
        holds: impl Fn(&K) -> bool,
    ) -> Result<K> {
        self.wait(api, name, within, expectation, |object: Option<&K>| object.is_some_and(&holds))?
            .ok_or_else(|| anyhow!("{name} is gone"))
    }

    fn wait<K: Object>(
        &self,
        api: &Api<K>,
        name: &str,
        within: Duration,
        expectation: &str,
        holds: impl Fn(Option<&K>) -> bool,
    ) -> Result<Option<K>> {
        let condition = self.within(within, await_condition(api.clone(), name, holds));
        let waited = self.runtime.block_on(condition);
        match waited {
            Ok(object) => Ok(object?),
            Err(Late::Interrupted) => Err(anyhow!("interrupted")),
            Err(Late::OutOfTime) => {
                let now = self.get(api, name)?.map_or_else(|| "absent".to_owned(), |object| describe(&object));
                Err(anyhow!("waited {within:?} for {} {name} {expectation}; it is: {now}", K::kind(&())))
            }
        }
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
        let interrupted = async {
            let mut looks = tokio::time::interval(LOOK);
            while !self.session.is_interrupted() {
                looks.tick().await;
            }
        };
        tokio::select! {
            done = work => Ok(done),
            () = interrupted => Err(Late::Interrupted),
            () = tokio::time::sleep(limit) => Err(Late::OutOfTime),
        }
    }

    /// What a pod's container printed.
    ///
    /// # Errors
    /// If the kubelet does not answer.
    pub fn logs(&self, pod: &str) -> Result<String> {
        let pods = self.namespaced::<Pod>();
        self.runtime.block_on(pods.logs(pod, &LogParams::default())).with_context(|| format!("logs of {pod}"))
    }

    /// Waits until an event of a pod holds a text, as `kubectl describe pod` shows it.
    ///
    /// # Errors
    /// If there is none in time; the error shows those there are.
    pub fn until_event(&self, pod: &str, within: Duration, text: &str) -> Result<()> {
        let seen = Mutex::new(Vec::new());
        let waited = self.runtime.block_on(async {
            let config = watcher::Config::default().fields(&format!("involvedObject.name={pod}"));
            let events = watcher(self.namespaced::<Event>(), config).applied_objects();
            let holds = |event: Result<Event, watcher::Error>| {
                let message = event.ok().and_then(|event| event.message).unwrap_or_default();
                let found = message.contains(text);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                ready(found)
            };
            self.within(within, pin!(events).any(holds)).await
        });
        match waited {
            Ok(true) => Ok(()),
            Err(Late::Interrupted) => Err(anyhow!("interrupted")),
            _ => Err(anyhow!("waited {within:?} for an event of {pod} with {text:?}; there are: {seen:?}")),
        }
    }
}

/// Why a wait ended without its condition.
enum Late {
    Interrupted,
    OutOfTime,
}

fn describe<K: Object>(object: &K) -> String {
    let mut json = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = json.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    serde_json::to_string_pretty(&json).unwrap_or_default()
}
