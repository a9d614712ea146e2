//! The project's own tasks: set-up, images, generated files, checks, tests, demo.
//!
//! `cargo xtask` is its command line; the tests on a cluster use [`images`] as a library.

pub mod bench;
pub mod by_hand;
pub mod check;
pub mod command;
pub mod demo;
pub mod generate;
pub mod images;
mod kubectl;
pub mod paths;
pub mod road;
pub mod setup;
pub mod steps;
pub mod test;
