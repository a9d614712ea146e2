//! What the operator knows of the cluster: one store per kind, kept by watches.

use std::sync::Arc;

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::{Store, Writer, store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource, ResourceExt};
use kwasm_api::names::JOB;
use kwasm_api::wasm_node::WasmNode;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::observed::{Declared, Job, Node};
use crate::watch::{keep, strip, strip_version};

/// An object that may not be what we think: one bad object must not stop a watch.
pub(crate) type Guarded<K> = DeserializeGuard<K>;

/// Every store.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) nodes: Store<Node>,
    pub(crate) wasm_nodes: Store<Guarded<WasmNode>>,
    pub(crate) runtimes: Store<Declared>,
    pub(crate) jobs: Store<Job>,
    pub(crate) classes: Store<RuntimeClass>,
}

/// Who wants to hear of changes.
#[derive(Clone)]
pub(crate) struct Listeners {
    /// The fleet: something changed.
    pub(crate) fleet: Arc<Notify>,
    /// The nodes: this one changed.
    pub(crate) nodes: UnboundedSender<ObjectRef<Guarded<WasmNode>>>,
}

impl Listeners {
    fn node(&self, name: &str) {
        // The receiver is gone only when the operator ends.
        let _ = self.nodes.send(ObjectRef::new(name));
    }

    fn all(&self, nodes: &Store<Guarded<WasmNode>>) {
        nodes.state().iter().for_each(|node| self.node(&node.name_any()));
    }
}

impl World {
    /// Starts every watch; they end with `tasks`.
    pub(crate) fn watch(client: &Client, namespace: &str, listeners: &Listeners, tasks: &mut JoinSet<()>) -> Self {
        let (nodes, nodes_writer) = store();
        let (wasm_nodes, wasm_nodes_writer) = store();
        let (runtimes, runtimes_writer) = store();
        let (jobs, jobs_writer) = store();
        let (classes, classes_writer) = store();
        let world = Self { nodes, wasm_nodes, runtimes, jobs, classes };

        let api = Api::all(client.clone());
        let name = |node: &Node| Some(node.name_any());
        tasks.spawn(keep(
            api,
            Config::default(),
            nodes_writer,
            strip_version,
            PartialEq::eq,
            world.both(listeners, name),
        ));
        let api = Api::all(client.clone());
        let name = |node: &Guarded<WasmNode>| Some(node.name_any());
        tasks.spawn(keep(api, Config::default(), wasm_nodes_writer, strip, never, world.both(listeners, name)));
        let api = Api::namespaced(client.clone(), namespace);
        let config = Config::default().labels(&format!("{JOB}=true"));
        tasks.spawn(keep(api, config, jobs_writer, strip, never, world.node(listeners)));
        world.fleet_only(client, listeners, runtimes_writer, tasks);
        world.fleet_only(client, listeners, classes_writer, tasks);
        world
    }

    /// Waits until every store has been filled once.
    pub(crate) async fn filled(&self) -> bool {
        let Self { nodes, wasm_nodes, runtimes, jobs, classes } = self;
        nodes.wait_until_ready().await.is_ok()
            && wasm_nodes.wait_until_ready().await.is_ok()
            && runtimes.wait_until_ready().await.is_ok()
            && jobs.wait_until_ready().await.is_ok()
            && classes.wait_until_ready().await.is_ok()
    }

    fn both<K>(&self, listeners: &Listeners, name: fn(&K) -> Option<String>) -> impl FnMut(Option<&K>) + use<K> {
        let (listeners, wasm_nodes) = (listeners.clone(), self.wasm_nodes.clone());
        move |object| {
            listeners.fleet.notify_one();
            match object.map(name) {
                Some(name) => name.iter().for_each(|name| listeners.node(name)),
                None => listeners.all(&wasm_nodes),
            }
        }
    }

    fn node(&self, listeners: &Listeners) -> impl FnMut(Option<&Job>) + use<> {
        let (listeners, wasm_nodes) = (listeners.clone(), self.wasm_nodes.clone());
        move |job| match job {
            Some(job) => listeners.node(&job.node),
            None => listeners.all(&wasm_nodes),
        }
    }

    fn fleet_only<K>(&self, client: &Client, listeners: &Listeners, writer: Writer<K>, tasks: &mut JoinSet<()>)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let fleet = Arc::clone(&listeners.fleet);
        tasks.spawn(keep(Api::all(client.clone()), Config::default(), writer, strip, never, move |_| {
            fleet.notify_one()
        }));
    }
}

/// Every event of these kinds is a change.
fn never<K>(_: &K, _: &K) -> bool {
    false
}
