//! `cargo xtask images`: the container images, as archives that `ctr images import` takes.
//!
//! Programs ([`programs`], [`guests`]) → a staged context → a digest of it ([`context`]) → buildah ([`archive`]), which
//! runs only where the digest is not that of the archive at hand.

mod archive;
mod catalogue;
mod context;
mod guests;
mod layer;
mod layout;
mod programs;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use archive::buildah;
pub use catalogue::{CATALOGUE, Content, Image};
pub use layer::Entry;

use crate::command::CommandError;
use crate::paths;

/// An image's archive.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image's name, as in [`CATALOGUE`].
    pub name: &'static str,
    /// What a pod's `image` must say.
    pub reference: String,
    /// The OCI archive.
    pub archive: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Built just now; otherwise it was there and nothing in it had changed.
    pub fresh: bool,
    /// Each file of the image and its size in bytes.
    pub files: Vec<(String, u64)>,
}

/// An image that could not be built.
#[derive(Debug, Error)]
pub enum ImageError {
    /// No such image.
    #[error("there is no image `{name}`; there are: {}", names().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It was not built yet.
    #[error("image {image}: {} is not there: `cargo xtask images` builds it", archive.display())]
    NotBuilt {
        /// The image.
        image: &'static str,
        /// Where its archive would be.
        archive: PathBuf,
    },
    /// A compiler or buildah failed.
    #[error("image {image}: {source}")]
    Command {
        /// The image.
        image: &'static str,
        /// What the program said.
        source: CommandError,
    },
    /// Cargo built a package and told of no such program.
    #[error("image {image}: the package {package} has no program `{binary}`")]
    NoProgram {
        /// The image.
        image: &'static str,
        /// The package that was built.
        package: &'static str,
        /// The program that should be in it.
        binary: &'static str,
    },
    /// A module could not be made a component.
    #[error("image {image}: {module} cannot be made a component: {reason}")]
    Component {
        /// The image.
        image: &'static str,
        /// The module.
        module: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("image {image}: {path}: {source}", path = path.display())]
    File {
        /// The image.
        image: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl ImageError {
    fn file(image: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { image, path, source }
    }

    fn command(image: &'static str) -> impl FnOnce(CommandError) -> Self {
        move |source| Self::Command { image, source }
    }
}

/// Builds every image.
///
/// # Errors
/// See [`ImageError`].
pub fn build_all() -> Result<Vec<Built>, ImageError> {
    CATALOGUE.iter().map(build_one).collect()
}

/// Builds the named images.
///
/// # Errors
/// See [`ImageError`].
pub fn build<S: AsRef<str>>(names: &[S]) -> Result<Vec<Built>, ImageError> {
    let wanted: Vec<_> = names.iter().map(|name| find(name.as_ref())).collect::<Result<_, _>>()?;
    wanted.into_iter().map(build_one).collect()
}

/// Where the archive of an image is, once built.
///
/// # Errors
/// If there is no such image.
pub fn archive(name: &str) -> Result<PathBuf, ImageError> {
    find(name).map(archive_of)
}

/// What a pod's `image` must say to run an image.
///
/// # Errors
/// If there is no such image.
pub fn reference(name: &str) -> Result<String, ImageError> {
    find(name).map(Image::reference)
}

/// Every archive, as built before.
///
/// # Errors
/// If one was not built yet.
pub fn archives() -> Result<Vec<PathBuf>, ImageError> {
    CATALOGUE.iter().map(existing_archive).collect()
}

fn existing_archive(image: &'static Image) -> Result<PathBuf, ImageError> {
    let archive = archive_of(image);
    if archive.is_file() { Ok(archive) } else { Err(ImageError::NotBuilt { image: image.name, archive }) }
}

fn names() -> Vec<&'static str> {
    CATALOGUE.iter().map(|image| image.name).collect()
}

fn find(name: &str) -> Result<&'static Image, ImageError> {
    CATALOGUE.iter().find(|image| image.name == name).ok_or_else(|| ImageError::Unknown { name: name.to_owned() })
}

fn folder() -> PathBuf {
    paths::cache().join("images")
}

fn archive_of(image: &Image) -> PathBuf {
    folder().join(image.name).with_extension("tar")
}

fn build_one(image: &'static Image) -> Result<Built, ImageError> {
    let folder = folder();
    std::fs::create_dir_all(&folder).map_err(ImageError::file(image.name, &folder))?;
    let work = tempfile::tempdir_in(&folder).map_err(ImageError::file(image.name, &folder))?;
    let staged = context::stage(image, work.path())?;
    let archive = archive_of(image);
    let digest = archive.with_extension("digest");
    let fresh = !archive.is_file() || std::fs::read_to_string(&digest).ok().as_deref() != Some(&staged.digest);
    if fresh {
        archive::write(image, &staged.folder, work.path(), &archive)?;
        std::fs::write(&digest, &staged.digest).map_err(ImageError::file(image.name, &digest))?;
    }
    let bytes = std::fs::metadata(&archive).map_err(ImageError::file(image.name, &archive))?.len();
    Ok(Built { name: image.name, reference: image.reference(), archive, bytes, fresh, files: staged.files })
}

/// Builds the named images (all without a name) and shows what came out.
///
/// # Errors
/// See [`ImageError`].
pub fn print(names: &[String]) -> anyhow::Result<()> {
    let images = if names.is_empty() { build_all()? } else { build(names)? };
    println!("{}", table(&images));
    Ok(())
}

/// The images and their sizes, for people.
pub(crate) fn table(images: &[Built]) -> String {
    let mut lines = vec![format!("{:<18} {:>10}  {:<42} ARCHIVE", "IMAGE", "SIZE", "REFERENCE")];
    for image in images {
        let size = mebibytes(image.bytes);
        let note = if image.fresh { "" } else { "  (unchanged)" };
        lines.push(format!("{:<18} {size:>10}  {:<42} {}{note}", image.name, image.reference, image.archive.display()));
        lines.extend(image.files.iter().map(|(file, bytes)| format!("  {:>27}  {file}", mebibytes(*bytes))));
    }
    lines.join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "two decimals of a size are shown")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_image_has_its_containerfile_beside_its_program() {
        for image in CATALOGUE {
            assert!(image.containerfile().is_file(), "{} is missing", image.containerfile().display());
        }
    }

    #[test]
    fn no_two_images_share_a_name() {
        let names: BTreeSet<_> = names().into_iter().collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[test]
    fn an_unknown_image_is_refused_with_the_names_there_are() {
        let error = archive("nginx").unwrap_err().to_string();
        assert!(error.contains("`nginx`") && error.contains("wasi-demo-app"), "{error}");
    }
}
