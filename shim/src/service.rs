//! containerd's Task service for the containers of one pod.

mod status;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ProcessInfo,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExit, TaskIO, TaskOOM, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::{Code, Result};
use tokio::sync::Notify;

use crate::container::{Container, Identity, Phase};
use crate::events::{Events, timestamp};
use crate::launch::{Launched, Launcher, Request};
use crate::log::Log;
use crate::reaper::Exit;
use crate::spec::{Mount, Resources, Role};
use crate::stdio::StdioPaths;
use status::{err, of_launch};

/// 128 + SIGKILL.
const SIGKILL: u32 = 9;

/// The service. Clones serve the same containers.
#[derive(Clone)]
pub(crate) struct TaskService(Arc<Pod>);

struct Pod {
    namespace: String,
    launcher: Launcher,
    events: Events,
    log: Arc<Log>,
    end: Arc<Notify>,
    containers: Mutex<Containers>,
}

#[derive(Default)]
struct Containers {
    /// `None` while a container is being created.
    known: HashMap<String, Option<Arc<Container>>>,
    /// containerd said Shutdown while a container was being created.
    shutdown: bool,
}

impl TaskService {
    /// A service without containers. `end` is notified when containerd wants the shim to end.
    pub(crate) fn new(namespace: String, launcher: Launcher, events: Events, log: Arc<Log>, end: Arc<Notify>) -> Self {
        Self(Arc::new(Pod { namespace, launcher, events, log, end, containers: Mutex::default() }))
    }
}

impl Pod {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = self.containers().known.get(id).cloned().flatten();
        found.ok_or_else(|| err(Code::NOT_FOUND, format!("container {id:?} is not of this pod's shim")))
    }

    /// As [`Pod::container`], for a call that may mean an exec: there are none.
    fn init_of(&self, id: &str, exec_id: &str) -> Result<Arc<Container>> {
        if exec_id.is_empty() {
            return self.container(id);
        }
        Err(err(Code::NOT_FOUND, format!("container {id:?} has no process {exec_id:?}")))
    }

    async fn create(self: Arc<Self>, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let id = request.id.clone();
        if self.containers().known.contains_key(&id) {
            return Err(err(Code::ALREADY_EXISTS, format!("container {id:?} exists already")));
        }
        self.containers().known.insert(id.clone(), None);
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
        self.adopt(launch, launched);
        self.log.info(&id, format_args!("created as process {pid}"));
        self.events.publish(topics::TASK_CREATE_EVENT_TOPIC, &task_create(&request, pid));
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    /// Registers a container and watches its process.
    fn adopt(self: &Arc<Self>, request: Request, launched: Launched) {
        let Launched { pid, exit, cgroup, role, held } = launched;
        let identity = Identity { id: request.id, bundle: request.bundle, role, pid };
        let container = Arc::new(Container::new(identity, cgroup, request.stdio, held));
        self.containers().known.insert(container.id.clone(), Some(Arc::clone(&container)));
        let pod = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                pod.ended(&container, exit);
            }
        });
    }

    fn ended(&self, container: &Container, exit: Exit) {
        let Container { id, pid, .. } = container;
        let kills = container.cgroup.oom_kills();
        if kills > 0 {
            self.log.info(id, "the kernel killed the process: its memory limit was reached");
            let oom = TaskOOM { container_id: id.clone(), ..TaskOOM::default() };
            self.events.publish(topics::TASK_OOM_EVENT_TOPIC, &oom);
        }
        self.log.info(id, format_args!("ended with {}", exit.code));
        container.set_phase(Phase::Stopped(exit));
        let event = TaskExit {
            container_id: id.clone(),
            id: id.clone(),
            pid: pid.as_raw().unsigned_abs(),
            exit_status: exit.code,
            exited_at: Some(timestamp(exit.at)).into(),
            ..TaskExit::default()
        };
        self.events.publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
    }

    /// A container that did not come into being.
    fn forget(&self, id: &str) {
        let mut containers = self.containers();
        containers.known.remove(id);
        if containers.shutdown && containers.known.is_empty() {
            self.end.notify_one();
        }
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
        let wanted = if container.phase() == Phase::Created { SIGKILL } else { request.signal };
        let number = i32::try_from(wanted).unwrap_or(-1);
        container.signal(number).map_err(|errno| match errno {
            nix::errno::Errno::ESRCH => err(Code::NOT_FOUND, "the container's process has ended already"),
            nix::errno::Errno::EINVAL => err(Code::INVALID_ARGUMENT, format!("there is no signal {wanted}")),
            errno => err(Code::INTERNAL, format!("sending signal {wanted}: {errno}")),
        })?;
        Ok(Empty::default())
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<DeleteResponse> {
        let container = self.init_of(&request.id, &request.exec_id)?;
        if container.phase() == Phase::Created {
            // A container that was never started has nobody to end it.
            let _ = container.signal(SIGKILL.cast_signed());
            container.stopped().await;
        }
        let Phase::Stopped(exit) = container.phase() else {
            return Err(err(
                Code::FAILED_PRECONDITION,
                format!("container {:?} is running: it must be killed first", request.id),
            ));
        };
        remove_cgroup(&container).await?;
        let pid = container.pid.as_raw().unsigned_abs();
        let exited_at: MessageField<_> = Some(timestamp(exit.at)).into();
        // Two may ask at the same time: one of them removes, and tells.
        if self.containers().known.remove(&request.id).is_some() {
            let event = TaskDelete {
                container_id: request.id.clone(),
                pid,
                exit_status: exit.code,
                exited_at: exited_at.clone(),
                ..TaskDelete::default()
            };
            self.events.publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
        }
        Ok(DeleteResponse { pid, exit_status: exit.code, exited_at, ..DeleteResponse::default() })
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

    fn update(&self, request: &UpdateTaskRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let resources: Resources = serde_json::from_slice(&request.resources.value)
            .map_err(|error| err(Code::INVALID_ARGUMENT, format!("the new limits are not OCI resources: {error}")))?;
        container.cgroup.update(&resources).map_err(|error| err(Code::INTERNAL, error.to_string()))?;
        Ok(Empty::default())
    }

    fn shutdown(&self) {
        let mut containers = self.containers();
        if containers.known.is_empty() {
            self.end.notify_one();
        } else {
            // containerd says so after every container; it counts only for one that is still coming.
            containers.shutdown = true;
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
        self.0.update(&request)
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

async fn remove_cgroup(container: &Container) -> Result<()> {
    // The kernel takes a moment to let go of a process that was collected.
    for pause in [1, 2, 5, 10, 20, 50, 100, 200, 500] {
        if container.cgroup.remove().is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    container.cgroup.kill_and_remove(Duration::ZERO).map_err(|error| err(Code::INTERNAL, error.to_string()))
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
