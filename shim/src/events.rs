//! Telling containerd what happened, in order, over restarts of containerd.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::MessageFull;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context;
use tokio::sync::{mpsc, oneshot};

use crate::log::Log;

/// How long one event may take to be delivered.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The first and the longest pause between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// What goes to the task that delivers.
enum Item {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

/// The way of events to containerd.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    namespace: String,
    queue: mpsc::UnboundedSender<Item>,
}

impl Events {
    /// Starts delivering to the containerd at `address` (TTRPC_ADDRESS, a path).
    pub(crate) fn start(address: String, namespace: String, log: Arc<Log>) -> Self {
        let (queue, events) = mpsc::unbounded_channel();
        tokio::spawn(deliver(events, format!("unix://{address}"), log));
        Self { namespace, queue }
    }

    /// Queues an event; the order of calls is the order of delivery.
    pub(crate) fn publish<M: MessageFull>(&self, topic: &str, event: &M) {
        let any = Any {
            type_url: M::descriptor().full_name().to_owned(),
            value: event.write_to_bytes().unwrap_or_default(),
            ..Any::default()
        };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(any).into(),
            ..Envelope::default()
        };
        // The task that delivers lives as long as the shim.
        let _ = self.queue.send(Item::Event(Box::new(envelope)));
    }

    /// Waits until all that was queued is delivered, but no longer than `patience`.
    pub(crate) async fn flush(&self, patience: Duration) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(patience, flushed).await;
        }
    }
}

async fn deliver(mut events: mpsc::UnboundedReceiver<Item>, address: String, log: Arc<Log>) {
    let mut client = None;
    while let Some(item) = events.recv().await {
        let envelope = match item {
            Item::Event(envelope) => envelope,
            Item::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let mut pause = RETRY.0;
        let request = ForwardRequest { envelope: Some(*envelope).into(), ..ForwardRequest::default() };
        while let Err(error) = forward(&mut client, &address, &request).await {
            log.debug("", format_args!("telling containerd {}: {error}; trying again", request.envelope.topic));
            client = None;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

async fn forward(
    client: &mut Option<EventsClient>,
    address: &str,
    request: &ForwardRequest,
) -> containerd_shim_protos::ttrpc::Result<()> {
    let connected = match client.take() {
        Some(client) => client,
        None => EventsClient::new(Client::connect(address).await?),
    };
    let timeout = i64::try_from(TIMEOUT.as_nanos()).unwrap_or(i64::MAX);
    connected.forward(context::with_timeout(timeout), request).await?;
    *client = Some(connected);
    Ok(())
}

/// A point in time in containerd's form.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    at.into()
}
