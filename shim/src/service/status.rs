//! From this shim's states and errors to containerd's.

use containerd_shim_protos::api::{StateResponse, Status};
use containerd_shim_protos::protobuf::EnumOrUnknown;
use containerd_shim_protos::ttrpc::error::get_rpc_status;
use containerd_shim_protos::ttrpc::{Code, Error};

use crate::cache::{CacheError, CompilerError};
use crate::container::{Container, Phase};
use crate::events::timestamp;
use crate::launch::LaunchError;
use crate::program::ProgramError;

/// An answer that is no success.
pub(super) fn err(code: Code, message: impl ToString) -> Error {
    get_rpc_status(code, message)
}

/// What Create answers: its message is what `kubectl describe pod` shows.
pub(super) fn of_launch(error: &LaunchError) -> Error {
    let code = match error {
        LaunchError::NoCommand(_) | LaunchError::Cache(CacheError::Compiler(CompilerError::Invalid(_))) => {
            Code::INVALID_ARGUMENT
        }
        LaunchError::Program(ProgramError::NotFound { .. }) => Code::NOT_FOUND,
        LaunchError::Program(ProgramError::Read { .. }) => Code::UNKNOWN,
        LaunchError::Program(_) => Code::INVALID_ARGUMENT,
        LaunchError::Terminal | LaunchError::Stdio(_) => Code::UNIMPLEMENTED,
        _ => Code::UNKNOWN,
    };
    err(code, error)
}

/// containerd's name for a phase.
fn phase_of(phase: Phase) -> Status {
    match phase {
        Phase::Created => Status::CREATED,
        Phase::Running => Status::RUNNING,
        Phase::Paused => Status::PAUSED,
        Phase::Stopped(_) => Status::STOPPED,
    }
}

/// What State answers.
pub(super) fn state(container: &Container) -> StateResponse {
    let phase = container.phase();
    let mut response = StateResponse {
        id: container.id.clone(),
        bundle: container.bundle.to_string_lossy().into_owned(),
        pid: container.pid.as_raw().unsigned_abs(),
        status: EnumOrUnknown::new(phase_of(phase)),
        stdin: container.stdio.stdin.clone(),
        stdout: container.stdio.stdout.clone(),
        stderr: container.stdio.stderr.clone(),
        ..StateResponse::default()
    };
    if let Phase::Stopped(exit) = phase {
        response.exit_status = exit.code;
        response.exited_at = Some(timestamp(exit.at)).into();
    }
    response
}
