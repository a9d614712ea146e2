//! The end of a container: its process's, and its own.

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::{TaskDelete, TaskExit, TaskOOM};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::{Code, Result};
use nix::libc::SIGKILL;

use super::Pod;
use super::status::err;
use crate::container::{Container, Phase};
use crate::events::timestamp;
use crate::reaper::Exit;

impl Pod {
    /// Tells containerd that a container's process has ended.
    pub(super) fn ended(&self, container: &Container, exit: Exit) {
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

    /// Deletes a container that has ended, or was never started. One that is still being created goes as soon as it is there.
    ///
    /// # Errors
    /// If it is not of this pod, or still running.
    pub(super) async fn delete(&self, request: &DeleteRequest) -> Result<DeleteResponse> {
        if request.exec_id.is_empty() && self.registry().abandon(&request.id) {
            return Err(err(
                Code::NOT_FOUND,
                format!("container {:?} is being created; it is taken away when that is done", request.id),
            ));
        }
        let container = self.init_of(&request.id, &request.exec_id)?;
        if container.phase() == Phase::Created {
            // A container that was never started has nobody to end it.
            let _ = container.signal(SIGKILL);
            container.stopped().await;
        }
        let Phase::Stopped(exit) = container.phase() else {
            return Err(err(
                Code::FAILED_PRECONDITION,
                format!("container {:?} is running: it must be killed first", request.id),
            ));
        };
        container.remove_cgroup().await.map_err(|error| err(Code::INTERNAL, error))?;
        let pid = container.pid.as_raw().unsigned_abs();
        let exited_at: MessageField<_> = Some(timestamp(exit.at)).into();
        // Two may ask at the same time: one of them removes, and tells.
        if self.registry().remove(&request.id) {
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
}
