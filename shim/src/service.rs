//! containerd's Task service for the containers of one pod.

mod creation;
mod end;
mod registry;
mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ProcessInfo,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskPaused, TaskResumed, TaskStart};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::{Code, Result};
use nix::libc::SIGKILL;
use tokio::sync::Notify;

use crate::container::{Container, Phase};
use crate::events::{Events, timestamp};
use crate::launch::Launcher;
use crate::log::Log;
use crate::spec::{Resources, Role};
use registry::Registry;
use status::err;

/// The service. Clones serve the same containers.
#[derive(Clone)]
pub(crate) struct TaskService(Arc<Pod>);

struct Pod {
    namespace: String,
    launcher: Launcher,
    events: Events,
    log: Arc<Log>,
    end: Arc<Notify>,
    registry: Mutex<Registry<Container>>,
}

impl TaskService {
    /// A service without containers. `end` is notified when containerd wants the shim to end.
    pub(crate) fn new(namespace: String, launcher: Launcher, events: Events, log: Arc<Log>, end: Arc<Notify>) -> Self {
        Self(Arc::new(Pod { namespace, launcher, events, log, end, registry: Mutex::default() }))
    }
}

impl Pod {
    fn registry(&self) -> MutexGuard<'_, Registry<Container>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = self.registry().get(id);
        found.ok_or_else(|| err(Code::NOT_FOUND, format!("container {id:?} is not of this pod's shim")))
    }

    /// As [`Pod::container`], for a call that may mean an exec: there are none.
    fn init_of(&self, id: &str, exec_id: &str) -> Result<Arc<Container>> {
        if exec_id.is_empty() {
            return self.container(id);
        }
        Err(err(Code::NOT_FOUND, format!("container {id:?} has no process {exec_id:?}")))
    }

    fn start(&self, request: &StartRequest) -> Result<StartResponse> {
        let container = self.init_of(&request.id, &request.exec_id)?;
        if container.phase() != Phase::Created {
            return Err(err(Code::FAILED_PRECONDITION, format!("container {:?} was started already", request.id)));
        }
        container.release().map_err(|error| err(Code::INTERNAL, format!("starting the guest: {error}")))?;
        container.set_phase(Phase::Running);
        let pid = container.pid.as_raw().unsigned_abs();
        // Nothing else runs between the word to start and this: so a guest that ends at once ends after it.
        let event = TaskStart { container_id: request.id.clone(), pid, ..TaskStart::default() };
        self.events.publish(topics::TASK_START_EVENT_TOPIC, &event);
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    fn kill(&self, request: &KillRequest) -> Result<Empty> {
        let container = self.init_of(&request.id, &request.exec_id)?;
        // Before its start a process is the engine's, and as PID 1 deaf to what it does not handle yet.
        let wanted = i32::try_from(request.signal).unwrap_or(-1);
        let number = if container.phase() == Phase::Created { SIGKILL } else { wanted };
        container.signal(number).map_err(|errno| match errno {
            nix::errno::Errno::ESRCH => err(Code::NOT_FOUND, "the container's process has ended already"),
            nix::errno::Errno::EINVAL => err(Code::INVALID_ARGUMENT, format!("there is no signal {}", request.signal)),
            errno => err(Code::INTERNAL, format!("sending signal {number}: {errno}")),
        })?;
        Ok(Empty::default())
    }

    fn freeze(&self, id: &str, frozen: bool) -> Result<Empty> {
        let container = self.container(id)?;
        let (from, to) = if frozen { (Phase::Running, Phase::Paused) } else { (Phase::Paused, Phase::Running) };
        if container.phase() != from {
            return Err(err(Code::FAILED_PRECONDITION, format!("container {id:?} is {:?}", container.phase())));
        }
        container.cgroup.freeze(frozen).map_err(|error| err(Code::INTERNAL, error.to_string()))?;
        container.set_phase(to);
        let container_id = id.to_owned();
        if frozen {
            self.events.publish(topics::TASK_PAUSED_EVENT_TOPIC, &TaskPaused { container_id, ..TaskPaused::default() });
        } else {
            self.events
                .publish(topics::TASK_RESUMED_EVENT_TOPIC, &TaskResumed { container_id, ..TaskResumed::default() });
        }
        Ok(Empty::default())
    }

    async fn update(&self, request: &UpdateTaskRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let resources: Resources = serde_json::from_slice(&request.resources.value)
            .map_err(|error| err(Code::INVALID_ARGUMENT, format!("the new limits are not OCI resources: {error}")))?;
        if let Err(error) = container.cgroup.update_scope(&resources, &self.launcher.reaper).await {
            self.log.warning(&container.id, error);
        }
        container.cgroup.update(&resources).map_err(|error| err(Code::INTERNAL, error.to_string()))?;
        Ok(Empty::default())
    }

    fn shutdown(&self) {
        let mut registry = self.registry();
        registry.shutdown();
        if registry.may_end() {
            self.end.notify_one();
        }
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        // In a task of its own: a caller that gives up (compiling takes its time) must not leave half a container.
        let created = tokio::spawn(Arc::clone(&self.0).create(request)).await;
        created.unwrap_or_else(|error| Err(err(Code::INTERNAL, error.to_string())))
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        self.0.start(&request)
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        Ok(status::state(self.0.init_of(&request.id, &request.exec_id)?.as_ref()))
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let container = self.0.init_of(&request.id, &request.exec_id)?;
        let exit = container.stopped().await.ok_or_else(|| err(Code::INTERNAL, "the shim lost the process"))?;
        let exited_at = Some(timestamp(exit.at)).into();
        Ok(WaitResponse { exit_status: exit.code, exited_at, ..WaitResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        self.0.kill(&request)
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        self.0.delete(&request).await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let mut pids = container.cgroup.pids();
        if pids.is_empty() {
            // containerd 1.7 takes a task without processes for a leaked one and drops it with its exit code.
            pids.push(container.pid.as_raw());
        }
        let processes =
            pids.into_iter().map(|pid| ProcessInfo { pid: pid.unsigned_abs(), ..ProcessInfo::default() }).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let metrics = self.0.container(&request.id)?.cgroup.metrics();
        Ok(StatsResponse { stats: Some(metrics).into(), ..StatsResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        let task_pid = self.0.container(&request.id).map_or(0, |container| container.pid.as_raw().unsigned_abs());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, ..ConnectResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        self.0.freeze(&request.id, true)
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        self.0.freeze(&request.id, false)
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        self.0.update(&request).await
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let container = self.0.init_of(&request.id, &request.exec_id)?;
        if request.stdin {
            container.close_stdin();
        }
        Ok(Empty::default())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let what = match self.0.container(&request.id)?.role {
            Role::Sandbox => "the pod's sandbox holds namespaces and runs no programs",
            Role::Guest => {
                "a WebAssembly container has no shell and no Linux programs to execute: look at it with kubectl logs, or probe it over \
                 the network"
            }
        };
        Err(err(Code::UNIMPLEMENTED, what))
    }

    async fn resize_pty(&self, _: &TtrpcContext, _: ResizePtyRequest) -> Result<Empty> {
        Err(err(Code::UNIMPLEMENTED, "a WebAssembly container has no terminal in this runtime yet"))
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        self.0.shutdown();
        Ok(Empty::default())
    }
}
