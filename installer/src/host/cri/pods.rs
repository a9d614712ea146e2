//! The pods that run, with their handlers: `runtime.v1.RuntimeService/ListPodSandbox`.

use std::fs;
use std::path::{Component, Path};

use serde_json::Value as Json;

use super::answer;
use crate::host::system::Pod;

/// `SANDBOX_READY` of the enumeration `PodSandboxState`.
const READY: i32 = 0;

/// Where CRI-O keeps a folder for each sandbox: its storage's default (`graphroot` of containers-storage.conf(5)).
const CRIO_SANDBOXES: &str = "/var/lib/containers/storage/overlay-containers";

/// What CRI-O notes the handler under (`RuntimeHandler` in `pkg/annotations`), and reads it from after its own restart
/// (`LoadSandbox` in `internal/lib/container_server.go`).
const CRIO_HANDLER: &str = "io.kubernetes.cri-o.RuntimeHandler";

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<PodSandboxFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxFilter {
    #[prost(message, optional, tag = "2")]
    state: Option<PodSandboxStateValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStateValue {
    #[prost(int32, tag = "1")]
    state: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(string, tag = "7")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// Asks for the pods whose sandbox is ready.
///
/// # Errors
/// In words, if there is no answer.
pub fn pods(socket: &str) -> Result<Vec<Pod>, String> {
    let ready = PodSandboxFilter { state: Some(PodSandboxStateValue { state: READY }) };
    let question = ListPodSandboxRequest { filter: Some(ready) };
    let response = answer(socket, "/runtime.v1.RuntimeService/ListPodSandbox", question)?;
    Ok(read(response, Path::new(CRIO_SANDBOXES)))
}

fn read(response: ListPodSandboxResponse, crio: &Path) -> Vec<Pod> {
    let ready = response.items.into_iter().filter(|sandbox| sandbox.state == READY);
    ready
        .map(|PodSandbox { id, metadata, runtime_handler, .. }| {
            let PodSandboxMetadata { name, namespace } = metadata.unwrap_or_default();
            // CRI-O does not fill the field.
            let noted = if runtime_handler.is_empty() { noted_by_crio(crio, &id) } else { None };
            Pod { namespace, name, handler: noted.unwrap_or(runtime_handler) }
        })
        .collect()
}

fn noted_by_crio(sandboxes: &Path, id: &str) -> Option<String> {
    let plain = matches!(Path::new(id).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    let spec = fs::read(sandboxes.join(id).join("userdata/config.json")).ok().filter(|_| plain)?;
    let spec: Json = serde_json::from_slice(&spec).ok()?;
    spec.get("annotations")?.get(CRIO_HANDLER)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn sandbox(id: &str, state: i32, handler: &str) -> PodSandbox {
        let metadata = PodSandboxMetadata { name: format!("pod-{id}"), namespace: "default".into() };
        PodSandbox { id: id.into(), metadata: Some(metadata), state, runtime_handler: handler.into() }
    }

    fn handlers(sandboxes: Vec<PodSandbox>, crio: &Path) -> Vec<String> {
        let pods = read(ListPodSandboxResponse { items: sandboxes }, crio);
        pods.into_iter().map(|pod| format!("{}/{} {}", pod.namespace, pod.name, pod.handler)).collect()
    }

    #[test]
    fn an_answer_is_read_by_the_field_numbers_of_the_protocol() {
        // id, metadata (name, uid, namespace, attempt), state, created_at, a label, runtime_handler.
        let item = b"\x0a\x01i\x12\x11\x0a\x05greet\x12\x01u\x1a\x03web\x20\x02\x18\x00\x20\x07\
                     \x2a\x06\x0a\x01k\x12\x01v\x3a\x08wasmtime";
        let length = u8::try_from(item.len()).unwrap();
        let answer = [&[0x0a, length][..], item].concat();
        let pods = read(ListPodSandboxResponse::decode(answer.as_slice()).unwrap(), Path::new("/nonexistent"));
        assert_eq!(pods, [Pod { namespace: "web".into(), name: "greet".into(), handler: "wasmtime".into() }]);
    }

    #[test]
    fn only_sandboxes_that_are_ready_are_asked_for_and_counted() {
        let ready = PodSandboxFilter { state: Some(PodSandboxStateValue { state: READY }) };
        // What is zero is left out, but the message that it stands in is not.
        assert_eq!(ListPodSandboxRequest { filter: Some(ready) }.encode_to_vec(), [0x0a, 0x02, 0x12, 0x00]);
        let sandboxes = vec![sandbox("a", READY, "wasmtime"), sandbox("b", 1, "wasmtime"), sandbox("c", READY, "")];
        assert_eq!(handlers(sandboxes, Path::new("/nonexistent")), ["default/pod-a wasmtime", "default/pod-c "]);
    }

    #[test]
    fn the_handler_that_crio_does_not_tell_is_the_one_that_it_noted() {
        let crio = tempfile::tempdir().unwrap();
        let note = |id: &str, text: &str| {
            std::fs::create_dir_all(crio.path().join(id).join("userdata")).unwrap();
            std::fs::write(crio.path().join(id).join("userdata/config.json"), text).unwrap();
        };
        note("a", r#"{"annotations": {"io.kubernetes.cri-o.RuntimeHandler": "crun-wasm"}}"#);
        note("b", r#"{"annotations": {"io.kubernetes.cri-o.RuntimeHandler": ""}}"#);
        note("c", "half a fi");
        let sandboxes = ["a", "b", "c", "../a", ""].map(|id| sandbox(id, READY, "")).to_vec();
        let expected =
            ["default/pod-a crun-wasm", "default/pod-b ", "default/pod-c ", "default/pod-../a ", "default/pod- "];
        assert_eq!(handlers(sandboxes, crio.path()), expected);
    }
}
