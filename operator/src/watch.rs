//! Watches: one per kind, each keeping one store and saying what changed.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;

use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tracing::warn;

/// Objects per page of a list: small enough that a page of large nodes is a few MB.
const PAGE: u32 = 200;

/// Watches one kind until the process ends. `strip` takes away what no decision needs; `changed` hears of every object
/// that is then not `same` as before, and `None` when everything was listed anew.
pub(crate) async fn keep<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    strip: fn(&mut K),
    same: fn(&K, &K) -> bool,
    mut changed: impl FnMut(Option<&K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let reader = writer.as_reader();
    let events = watch(api, config.page_size(PAGE)).default_backoff().modify(strip);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                warn!(kind = %K::kind(&()), %error, "watch failed; it is tried again");
                continue;
            }
        };
        if let Event::Apply(object) = &event
            && reader.get(&ObjectRef::from_obj(object)).is_some_and(|old| same(&old, object))
        {
            continue;
        }
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(object) | Event::Delete(object) => changed(Some(object)),
            Event::InitDone => changed(None),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// Takes away what no decision needs.
pub(crate) fn strip<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Takes away also what changes with every write, a kubelet's heartbeat among them.
pub(crate) fn strip_version<K: Resource>(object: &mut K) {
    strip(object);
    object.meta_mut().resource_version = None;
}
