//! Objects as the operator sees them. Of other people's, which are many and of some 12 KB each, only the fields that decisions need are deserialised and kept, because
//! a cluster has many nodes and each is some 12 KB.

mod declared;
mod job;
mod node;

pub(crate) use declared::{Declared, Unreadable};
pub(crate) use job::{Job, JobProgress};
pub(crate) use node::Node;
