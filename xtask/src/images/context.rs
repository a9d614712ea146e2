//! A build context: what a Containerfile finds beside it, and the digest of all that.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Content, Image, ImageError, guests, layer, programs};

/// Part of every digest: count it up where the way images are built changes the image.
const RECIPE: &str = "3";

/// A context that is ready.
pub(super) struct Staged {
    pub(super) folder: PathBuf,
    /// Of everything that decides what the image is.
    pub(super) digest: String,
    /// Each file and its size in bytes.
    pub(super) files: Vec<(String, u64)>,
}

/// Puts everything that an image is made of into a folder below `work`.
pub(super) fn stage(image: &'static Image, work: &Path) -> Result<Staged, ImageError> {
    let folder = work.join("context");
    let mut hash = Sha256::new();
    let mut files = Vec::new();
    hash.update(format!("{RECIPE}\n{}\n{}\n", env!("CARGO_PKG_VERSION"), image.reference()));
    hash_file(&mut hash, image, "Containerfile", &image.containerfile())?;
    for content in image.contents {
        let to = folder.join(content.to());
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(ImageError::file(image.name, parent))?;
        }
        put(image, content, &to)?;
        files.push((content.to().to_owned(), hash_file(&mut hash, image, content.to(), &to)?));
    }
    Ok(Staged { folder, digest: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), files })
}

fn put(image: &'static Image, content: &Content, to: &Path) -> Result<(), ImageError> {
    match content {
        Content::Program { package, binary, .. } => copy(image, &programs::release(image.name, package, binary)?, to),
        Content::Go { .. } => guests::go(image, to),
        Content::C { source, .. } => guests::c(image, source, to),
        Content::Component { source, .. } => guests::component(image, source, to),
        Content::Linux { source, .. } => guests::linux(image, source, to),
        Content::File(name) => copy(image, &image.folder().join(name), to),
        Content::Layer { entries, .. } => layer::write(entries, to).map_err(ImageError::file(image.name, to)),
    }
}

fn copy(image: &'static Image, from: &Path, to: &Path) -> Result<(), ImageError> {
    std::fs::copy(from, to).map(drop).map_err(ImageError::file(image.name, from))
}

/// Adds a file's name and content; gives its size in bytes.
fn hash_file(hash: &mut Sha256, image: &'static Image, name: &str, path: &Path) -> Result<u64, ImageError> {
    let bytes = std::fs::read(path).map_err(ImageError::file(image.name, path))?;
    hash.update(format!("{name}\n{}\n", bytes.len()));
    hash.update(&bytes);
    Ok(bytes.len() as u64)
}
