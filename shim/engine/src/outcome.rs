//! From the end of a guest to an exit code.

use kwasm_shim_protocol::engine::EXIT_TRAP;
use wasmtime_wasi::I32Exit;

/// How a guest ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It returned or exited with this code.
    Exited(i32),
    /// It was stopped by a trap, told here with the guest's backtrace.
    Trapped(String),
}

impl Outcome {
    /// The end that a call's result means; `program` names the guest in a trap's report.
    pub(crate) fn of(result: wasmtime::Result<()>, program: &str) -> Self {
        match result {
            Ok(()) => Self::Exited(0),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Self::Exited(*code),
                None => Self::Trapped(format!("{program}: the guest trapped: {error:?}")),
            },
        }
    }

    /// The exit code of the container: as for a Linux program, the low eight bits of the guest's.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => (code & 0xff) as u8,
            Self::Trapped(_) => EXIT_TRAP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_own_code_passes_through() {
        for (code, seen) in [(0, 0), (3, 3), (200, 200), (256, 0), (-1, 255)] {
            assert_eq!(Outcome::of(Err(I32Exit(code).into()), "x").exit_code(), seen, "{code}");
        }
    }

    #[test]
    fn a_trap_is_told_and_is_134() {
        let outcome = Outcome::of(Err(wasmtime::Trap::UnreachableCodeReached.into()), "/x.wasm");
        assert_eq!(outcome.exit_code(), 134);
        assert!(matches!(outcome, Outcome::Trapped(text) if text.contains("/x.wasm") && text.contains("unreachable")));
    }
}
