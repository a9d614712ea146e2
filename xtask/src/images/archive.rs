//! buildah: from a context to an OCI archive, whose layers are then compressed.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Image, ImageError, layout};
use crate::command;

/// Nothing is verified: images here come from `scratch` and go to a file. A policy of our own, because a machine's
/// may forbid that.
const POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// Builds an image and puts its archive at `to`, all at once. What buildah needs beside is kept below `work`.
pub(super) fn write(image: &'static Image, context: &Path, work: &Path, to: &Path) -> Result<(), ImageError> {
    let buildah = |verb: &str| buildah(work, verb).map_err(ImageError::file(image.name, work));
    let run = |command: &mut Command| command::read(command).map(drop).map_err(ImageError::command(image.name));

    // `--timestamp 0`: the same files make the same image, wherever and whenever.
    let mut build = buildah("bud")?;
    build.args(["--isolation", "chroot", "--platform", "linux/amd64", "--timestamp", "0", "--quiet"]);
    build.args(["--label", concat!("org.opencontainers.image.version=", env!("CARGO_PKG_VERSION"))]);
    build.args(["--tag", &image.reference()]);
    run(build.arg("--file").arg(image.containerfile()).arg(context))?;

    let whole = work.join("image.tar");
    let mut push = buildah("push")?;
    // With a name behind the path, an import knows the image by it.
    push.arg("--quiet").arg(image.reference());
    run(push.arg(format!("oci-archive:{}:{}", whole.display(), image.reference())))?;
    let compressed = work.join("compressed.tar");
    layout::compress(image, &whole, work, &compressed)?;
    std::fs::rename(&compressed, to).map_err(ImageError::file(image.name, to))
}

/// buildah with a store of its own below `work`, so that the machine's images are not touched.
///
/// # Errors
/// If its policy cannot be written.
pub fn buildah(work: &Path, verb: &str) -> io::Result<Command> {
    let policy = work.join("policy.json");
    std::fs::write(&policy, POLICY)?;
    let mut command = Command::new("buildah");
    command.args(["--storage-driver", "vfs", "--root"]).arg(work.join("store"));
    command.arg("--runroot").arg(work.join("run")).env("TMPDIR", work);
    command.arg(verb).arg("--signature-policy").arg(policy);
    Ok(command)
}
