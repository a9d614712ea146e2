//! Programs built from Go modules, whose versions `go.mod` and `go.sum` pin.

use std::path::PathBuf;

use super::PieceError;
use super::cache::{self, Workshop};
use crate::files;
use crate::session::Session;
use crate::tool::{self, ToolError};

struct Program {
    name: &'static str,
    /// What to build, as `go build` names it.
    package: &'static str,
    sources: &'static [(&'static str, &'static str)],
    linker_flags: &'static str,
}

const HYPERKUBE: Program = Program {
    name: "hyperkube",
    package: ".",
    sources: &[
        ("go.mod", include_str!("../../hyperkube/go.mod")),
        ("go.sum", include_str!("../../hyperkube/go.sum")),
        ("main.go", include_str!("../../hyperkube/main.go")),
    ],
    linker_flags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.35.4 \
                   -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35",
};

const HELM: Program = Program {
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    sources: &[("go.mod", include_str!("../../helm/go.mod")), ("go.sum", include_str!("../../helm/go.sum"))],
    linker_flags: "-s -w",
};

/// Debian packages no containerd that knows the newest format of configurations.
const CONTAINERD: Program = Program {
    name: "containerd-newest",
    package: "github.com/containerd/containerd/v2/cmd/containerd",
    sources: &[
        ("go.mod", include_str!("../../containerd/go.mod")),
        ("go.sum", include_str!("../../containerd/go.sum")),
    ],
    linker_flags: "-s -w",
};

/// Go's own template engine: nothing else reads a Go template as k3s does.
const RANCHER_TEMPLATE: Program = Program {
    name: "rancher-template",
    package: ".",
    sources: &[
        ("go.mod", include_str!("../../rancher-template/go.mod")),
        ("main.go", include_str!("../../rancher-template/main.go")),
    ],
    linker_flags: "-s -w",
};

/// Every Kubernetes program in one file.
pub(super) fn hyperkube(session: &Session) -> Result<PathBuf, PieceError> {
    build(&HYPERKUBE, session)
}

/// Helm.
pub(super) fn helm(session: &Session) -> Result<PathBuf, PieceError> {
    build(&HELM, session)
}

/// The newest containerd.
pub(super) fn containerd(session: &Session) -> Result<PathBuf, PieceError> {
    build(&CONTAINERD, session)
}

/// The renderer of k3s' and RKE2's templates.
pub(super) fn rancher_template(session: &Session) -> Result<PathBuf, PieceError> {
    build(&RANCHER_TEMPLATE, session)
}

fn build(program: &Program, session: &Session) -> Result<PathBuf, PieceError> {
    let mut inputs = vec![program.package, program.linker_flags];
    inputs.extend(program.sources.iter().flat_map(|(name, text)| [*name, *text]));
    let folder = cache::piece(program.name, &inputs, session, |workshop| compile(program, workshop, session))?;
    Ok(folder.join(program.name))
}

fn compile(program: &Program, workshop: &Workshop<'_>, session: &Session) -> Result<(), PieceError> {
    let sources = workshop.folder.join("sources");
    for (name, text) in program.sources {
        files::write(&sources.join(name), text)?;
    }
    let output = workshop.folder.join(program.name);
    let mut go = tool::bound_command("go", ["build", "-trimpath", "-ldflags", program.linker_flags, "-o"]);
    go.arg(&output).arg(program.package).current_dir(&sources).env("CGO_ENABLED", "0");
    let failed = |source: ToolError| PieceError::Tool { piece: program.name.to_owned(), source };
    tool::run_long(&mut go, program.name, workshop.log, session).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::HYPERKUBE;

    const KUBERNETES_VERSION: &str = "v1.35.4";

    #[test]
    fn the_version_the_programs_report_is_the_one_in_go_mod() {
        let required = format!("k8s.io/kubernetes {KUBERNETES_VERSION}");
        assert!(
            HYPERKUBE.sources[0].1.contains(&required),
            "go.mod requires another version than {KUBERNETES_VERSION}"
        );
        assert!(HYPERKUBE.linker_flags.contains(&format!("gitVersion={KUBERNETES_VERSION} ")));
    }
}
