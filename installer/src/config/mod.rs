//! A container runtime's configuration: which dialect it is, what stands in it, and how handlers go in and out.
//!
//! Everything here is pure. The file is edited as text at places that a parser points out, so that whatever
//! is not ours keeps every byte: comments, order, quoting, line endings, a byte order mark.

pub mod dialect;
pub mod dump;
pub mod edit;
pub mod entry;
pub mod outline;
pub mod template;

pub use dialect::Dialect;
pub use entry::Entry;

/// The files that a configuration imports, as it names them; none if it is not TOML.
#[must_use]
pub fn imports(text: &str) -> Vec<String> {
    let document = toml_edit::Document::parse(text).ok();
    let imports = document.as_ref().and_then(|document| document.get("imports")?.as_array());
    imports.into_iter().flatten().filter_map(|path| path.as_str().map(str::to_owned)).collect()
}
