//! Stripped forms of other people's objects: only the fields that decisions need are deserialised and kept, because
//! a cluster has many nodes and each is some 12 KB.

mod job;
mod node;

pub(crate) use job::{Job, JobProgress};
pub(crate) use node::Node;
