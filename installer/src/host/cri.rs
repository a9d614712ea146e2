//! Asking a container runtime over CRI: calls of `runtime.v1.RuntimeService`.
//!
//! Field numbers are those of Kubernetes' `runtime/v1/api.proto` (1.35).

mod pods;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value as Json;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

pub use pods::pods;

use super::system::CriStatus;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    runtime_handlers: Vec<RuntimeHandler>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeCondition {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeHandler {
    #[prost(string, tag = "1")]
    name: String,
}

/// Asks for the status, with everything the runtime tells about its configuration.
///
/// # Errors
/// In words, if there is no answer.
pub fn status(socket: &str) -> Result<CriStatus, String> {
    let question = StatusRequest { verbose: true };
    answer(socket, "/runtime.v1.RuntimeService/Status", question).map(|response| read(&response))
}

fn answer<Q, A>(socket: &str, call: &'static str, question: Q) -> Result<A, String>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(socket, call, question)).await });
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

async fn ask<Q, A>(socket: &str, call: &'static str, question: Q) -> Result<A, String>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(|error| chain(&error))?;
    let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
    // The whole configuration comes in the answer to one; tonic's own limit is 4 MiB.
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await.map_err(|error| chain(&error))?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = client.unary(Request::new(question), PathAndQuery::from_static(call), codec).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status: Status| format!("{:?}: {}", status.code(), status.message()))
}

fn read(response: &StatusResponse) -> CriStatus {
    let conditions = response.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = |name: &str| conditions.iter().find(|condition| condition.r#type == name);
    let ready = condition("RuntimeReady");
    let mut handlers: BTreeMap<String, Json> = response
        .info
        .get("config")
        .and_then(|config| serde_json::from_str::<Json>(config).ok())
        .and_then(|config| config.pointer("/containerd/runtimes").and_then(Json::as_object).cloned())
        .unwrap_or_default()
        .into_iter()
        .collect();
    for handler in &response.runtime_handlers {
        if !handler.name.is_empty() {
            handlers.entry(handler.name.clone()).or_insert(Json::Null);
        }
    }
    CriStatus {
        ready: ready.is_some_and(|condition| condition.status),
        message: ready.map(|condition| format!("{} {}", condition.reason, condition.message)).unwrap_or_default(),
        network_ready: condition("NetworkReady").is_some_and(|condition| condition.status),
        handlers,
    }
}

/// An error with everything behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_from_the_configuration_that_the_daemon_holds() {
        let config = r#"{"containerd": {"runtimes": {"wasmtime": {"runtimeType": "/x"}}}}"#;
        let condition = |name: &str, status| RuntimeCondition { r#type: name.into(), status, ..Default::default() };
        let response = StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", false)],
            }),
            info: HashMap::from([("config".to_owned(), config.to_owned())]),
            runtime_handlers: vec![RuntimeHandler { name: "crun".into() }, RuntimeHandler { name: String::new() }],
        };
        let status = read(&response);
        assert!(status.ready && !status.network_ready);
        assert_eq!(status.handlers.keys().collect::<Vec<_>>(), ["crun", "wasmtime"]);
        assert_eq!(status.handlers["wasmtime"]["runtimeType"], "/x");
    }

    #[test]
    fn a_socket_that_is_not_there_is_named_with_the_reason() {
        let error = status("/nonexistent/containerd.sock").unwrap_err();
        assert!(error.contains("No such file or directory"), "{error}");
    }
}
