//! containerd's configuration file: which dialect it is, what stands in it, and how handlers go in and out.
//!
//! Everything here is pure. The file is edited as text at places that a parser points out, so that whatever
//! is not ours keeps every byte: comments, order, quoting, line endings, a byte order mark.

pub mod dialect;
pub mod dump;
pub mod edit;
pub mod entry;
pub mod outline;

pub use dialect::Dialect;
pub use entry::Entry;
