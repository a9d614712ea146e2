//! The node: its files, its commands, its processes.

mod commands;
pub mod cri;
pub mod enter;
pub mod files;
pub mod lock;
pub mod mounts;
pub mod node;
pub mod processes;
pub mod system;

pub use files::Files;
pub use system::System;
