//! The node: its files, its commands, its processes.

pub mod cri;
pub mod enter;
pub mod files;
pub mod lock;
pub mod node;
pub mod processes;
pub mod system;

pub use files::Files;
pub use system::System;
