//! What the shim, its container processes and the compiler say to each other.
//!
//! A container's process is first `init` (the shim's own binary, which prepares the container) and then, by
//! `exec`, the engine. Both speak over one control socket that the shim keeps the other end of.

pub mod artefact;
pub mod control;
pub mod engine;
