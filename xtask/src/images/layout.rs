//! The OCI image layout that buildah writes, with its layers compressed better than buildah can.
//!
//! One long window: the programs of an image share their libraries' code, megabytes apart. containerd reads zstd
//! since 1.5, CRI-O since 1.19.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use kwasm_installer::artifacts::{file_digest, text_digest};
use serde_json::{Value, json};

use super::{Image, ImageError};
use crate::command;

/// A layer as buildah writes it.
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The same, compressed better. Both are of the OCI image specification 1.1.
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A window of 32 MiB (2^25): what a node needs of memory to unpack it.
const COMPRESS: [&str; 3] = ["-19", "--long=25", "--quiet"];

/// Writes an archive of a layout anew, its layers compressed. The same layout gives the same bytes.
pub(super) fn compress(image: &'static Image, plain: &Path, work: &Path, to: &Path) -> Result<(), ImageError> {
    let layout = Layout { image, folder: work.join("layout") };
    let unpacked = File::open(plain).and_then(|archive| tar::Archive::new(archive).unpack(&layout.folder));
    unpacked.map_err(ImageError::file(image.name, plain))?;
    let index_path = layout.folder.join("index.json");
    let mut index = layout.json(&index_path)?;
    for descriptor in array(&mut index, "manifests") {
        layout.compress_image(descriptor)?;
    }
    layout.write(&index_path, &index.to_string().into_bytes())?;
    layout.pack(to).map_err(ImageError::file(image.name, to))
}

struct Layout {
    image: &'static Image,
    folder: PathBuf,
}

impl Layout {
    /// Compresses the layers of the image that a descriptor names; the descriptor names the new one then.
    fn compress_image(&self, descriptor: &mut Value) -> Result<(), ImageError> {
        let path = self.blob(descriptor);
        let mut manifest = self.json(&path)?;
        for layer in array(&mut manifest, "layers") {
            if layer["mediaType"] == GZIP {
                self.compress_layer(layer)?;
            }
        }
        fs::remove_file(&path).map_err(ImageError::file(self.image.name, &path))?;
        let text = manifest.to_string();
        describe(descriptor, &text_digest(&text), text.len() as u64);
        self.write(&self.blob(descriptor), text.as_bytes())
    }

    fn compress_layer(&self, layer: &mut Value) -> Result<(), ImageError> {
        let gzip = self.blob(layer);
        let (plain, compressed) = (gzip.with_extension("tar"), gzip.with_extension("zst"));
        self.zstd(&["--decompress", "--quiet"], &gzip, &plain)?;
        self.zstd(&COMPRESS, &plain, &compressed)?;
        let measured = file_digest(&compressed).and_then(|digest| Ok((digest, fs::metadata(&compressed)?.len())));
        let (digest, bytes) = measured.map_err(ImageError::file(self.image.name, &compressed))?;
        describe(layer, &digest, bytes);
        layer["mediaType"] = json!(ZSTD);
        for old in [&gzip, &plain] {
            fs::remove_file(old).map_err(ImageError::file(self.image.name, old))?;
        }
        fs::rename(&compressed, self.blob(layer)).map_err(ImageError::file(self.image.name, &compressed))
    }

    fn zstd(&self, options: &[&str], from: &Path, to: &Path) -> Result<(), ImageError> {
        let mut zstd = Command::new("zstd");
        zstd.args(options).arg(from).arg("-o").arg(to);
        command::read(&mut zstd).map(drop).map_err(ImageError::command(self.image.name))
    }

    /// Where a descriptor's blob is.
    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        self.folder.join("blobs").join(digest.replacen(':', "/", 1))
    }

    fn json(&self, path: &Path) -> Result<Value, ImageError> {
        let read = File::open(path).and_then(|file| Ok(serde_json::from_reader(file)?));
        read.map_err(ImageError::file(self.image.name, path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        fs::write(path, bytes).map_err(ImageError::file(self.image.name, path))
    }

    /// Packs the files in the order of their names, as of no time and nobody.
    fn pack(&self, to: &Path) -> io::Result<()> {
        let mut archive = tar::Builder::new(File::create(to)?);
        archive.mode(tar::HeaderMode::Deterministic);
        let mut blobs: Vec<PathBuf> = fs::read_dir(self.folder.join("blobs/sha256"))?
            .map(|entry| Ok(PathBuf::from("blobs/sha256").join(entry?.file_name())))
            .collect::<io::Result<_>>()?;
        blobs.sort();
        for name in blobs.into_iter().chain(["index.json".into(), "oci-layout".into()]) {
            archive.append_path_with_name(self.folder.join(&name), &name)?;
        }
        archive.into_inner()?.flush()
    }
}

/// The elements of a list; none where there is no list.
fn array<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn describe(descriptor: &mut Value, digest: &str, bytes: u64) {
    descriptor["digest"] = json!(format!("sha256:{digest}"));
    descriptor["size"] = json!(bytes);
}
