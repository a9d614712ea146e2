//! The pause image: no registry is at hand to take the usual one from.

use std::path::PathBuf;

use super::PieceError;
use super::cache::{self, Workshop};
use crate::files;
use crate::session::Session;
use crate::tool::{self, ToolError};

/// The reference inside the archive: what containerd 2.1 asks for.
const REFERENCE: &str = "registry.k8s.io/pause:3.10";
/// What containerd 1.6 and 1.7 ask for instead.
pub(crate) const OLDER_REFERENCES: [&str; 2] = ["registry.k8s.io/pause:3.6", "registry.k8s.io/pause:3.8"];

const SOURCE: &str = include_str!("pause.c");
const CONTAINERFILE: &str = "FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT [\"/pause\"]\n";

/// The image as an OCI archive.
pub(super) fn archive(session: &Session) -> Result<PathBuf, PieceError> {
    let folder =
        cache::piece("pause", &[REFERENCE, SOURCE, CONTAINERFILE], session, |workshop| build(workshop, session))?;
    Ok(folder.join("pause.tar"))
}

fn build(workshop: &Workshop<'_>, session: &Session) -> Result<(), PieceError> {
    let failed = |source: ToolError| PieceError::Tool { piece: "the pause image".to_owned(), source };
    let (context, storage) = (workshop.folder.join("context"), workshop.folder.join("storage"));
    files::write(&context.join("pause.c"), SOURCE)?;
    files::write(&context.join("Containerfile"), CONTAINERFILE)?;
    let mut compiler = tool::command("cc", ["-static", "-Os", "-s", "-o", "pause", "pause.c"]);
    tool::run(compiler.current_dir(&context)).map_err(failed)?;
    let buildah = |words: &[&str]| {
        let mut command = tool::command("buildah", ["--storage-driver", "vfs", "--root"]);
        command.arg(storage.join("root")).arg("--runroot").arg(storage.join("run")).args(words).current_dir(&context);
        tool::run_long(&mut command, "pause image", workshop.log, session).map_err(failed)
    };
    buildah(&["build", "--isolation", "chroot", "--tag", REFERENCE, "."])?;
    let target = format!("oci-archive:{}:{REFERENCE}", workshop.folder.join("pause.tar").display());
    buildah(&["push", REFERENCE, &target])?;
    files::remove_folder(&storage)?;
    Ok(())
}
