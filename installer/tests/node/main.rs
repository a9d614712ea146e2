//! Whole runs of the installer on trees of nodes in a folder, with a daemon that is played.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;
mod bad_input;
mod campaign;
mod crio;
mod damage;
mod disk;
mod facts;
mod failures;
mod fake;
mod faults;
mod gate;
mod http;
mod image;
mod in_use;
mod install_dir;
mod killed_twice;
mod loading;
mod meanwhile;
mod oracle;
mod platforms;
mod played;
mod points;
mod program;
mod rendering;
mod server;
mod status;
mod trees;
