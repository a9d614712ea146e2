//! Create: from containerd's request to a container of the pod, or to nothing.

use std::path::PathBuf;
use std::sync::Arc;

use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::{Code, Result};
use nix::libc::SIGKILL;
use tokio::sync::oneshot;

use super::Pod;
use super::registry::Outcome;
use super::status::{err, of_launch};
use crate::container::{Container, Identity};
use crate::launch::{Launched, Request};
use crate::reaper::Exit;
use crate::spec::Mount;
use crate::stdio::StdioPaths;

impl Pod {
    /// Creates a container.
    ///
    /// # Errors
    /// If it cannot be created, or containerd has given up on it meanwhile: nothing is left of it then.
    pub(super) async fn create(self: Arc<Self>, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let id = request.id.clone();
        if !self.registry().begin(&id) {
            return Err(err(Code::ALREADY_EXISTS, format!("container {id:?} exists already")));
        }
        let launch = launch_request(&request, &self.namespace);
        let launched = match self.launcher.launch(&launch).await {
            Ok(launched) => launched,
            Err(error) => {
                self.log.warning(&id, format_args!("not created: {error}"));
                self.forget(&id);
                return Err(of_launch(&error));
            }
        };
        let pid = launched.pid.as_raw().unsigned_abs();
        let (container, exit) = container_of(launch, launched);
        if self.registry().finish(&id, &container) == Outcome::Abandoned {
            self.take_away(&container, exit).await;
            return Err(err(Code::CANCELLED, format!("container {id:?} was deleted while it was created")));
        }
        self.watch(container, exit);
        self.log.info(&id, format_args!("created as process {pid}"));
        self.events.publish(topics::TASK_CREATE_EVENT_TOPIC, &task_create(&request, pid));
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    fn watch(self: &Arc<Self>, container: Arc<Container>, exit: oneshot::Receiver<Exit>) {
        let pod = Arc::clone(self);
        tokio::spawn(async move {
            let running = Arc::clone(&container);
            let input = tokio::spawn(async move { running.close_stdin_with_its_client().await });
            if let Ok(exit) = exit.await {
                pod.ended(&container, exit);
            }
            input.abort();
        });
    }

    /// Ends a container that nobody waits for any more: containerd knows nothing of it, so it is told nothing.
    async fn take_away(&self, container: &Container, exit: oneshot::Receiver<Exit>) {
        self.log.warning(&container.id, "containerd gave up before it was created: it is taken away");
        let _ = container.signal(SIGKILL);
        let _ = exit.await;
        if let Err(error) = container.remove_cgroup().await {
            self.log.warning(&container.id, error);
        }
        self.forget(&container.id);
    }

    /// A container that did not come into being.
    fn forget(&self, id: &str) {
        let mut registry = self.registry();
        registry.remove(id);
        if registry.may_end() {
            self.end.notify_one();
        }
    }
}

fn container_of(request: Request, launched: Launched) -> (Arc<Container>, oneshot::Receiver<Exit>) {
    let Launched { pid, exit, cgroup, role, held } = launched;
    let identity = Identity { id: request.id, bundle: request.bundle, role, pid };
    (Arc::new(Container::new(identity, cgroup, request.stdio, held)), exit)
}

fn launch_request(request: &CreateTaskRequest, namespace: &str) -> Request {
    let rootfs = request.rootfs.iter().map(|mount| Mount {
        destination: PathBuf::new(),
        kind: mount.type_.clone(),
        source: PathBuf::from(&mount.source),
        options: mount.options.clone(),
    });
    Request {
        id: request.id.clone(),
        namespace: namespace.to_owned(),
        bundle: PathBuf::from(&request.bundle),
        rootfs: rootfs.collect(),
        stdio: StdioPaths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        },
        terminal: request.terminal,
    }
}

fn task_create(request: &CreateTaskRequest, pid: u32) -> TaskCreate {
    let io = TaskIO {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
        ..TaskIO::default()
    };
    TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        io: MessageField::some(io),
        pid,
        ..TaskCreate::default()
    }
}
