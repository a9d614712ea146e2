//! What is on a node, and whether it is as it should be.

use std::fmt;

use serde::Serialize;

use crate::run::Prepared;
use crate::target::Target;

/// A node as `kwasm-installer status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The document's version: 1.
    version: u32,
    containerd: DaemonStatus,
    runtimes: Vec<RuntimeStatus>,
    /// What is not as it should be, a sentence each.
    problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DaemonStatus {
    name: &'static str,
    version: String,
    unit: String,
    config_path: String,
    /// 0 where the file cannot be understood.
    config_version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeStatus {
    name: String,
    handler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Whether the running daemon serves the handler as it is configured.
    served: bool,
}

impl Status {
    /// Judges a node by what bringing it to its own ledger would take: nothing, if all is well.
    #[must_use]
    pub fn of(prepared: &Prepared, target: &Target) -> Self {
        let Prepared { observed, effective, plan } = prepared;
        let served = |handler: &str| {
            let entry = plan.expected.entries.iter().find(|entry| entry.handler == handler);
            entry.map_or_else(
                || effective.cri.handlers.contains_key(handler),
                |entry| effective.cri.ready && effective.cri.serves(entry),
            )
        };
        let runtime = |report: &kwasm_api::report::RuntimeReport| RuntimeStatus {
            name: report.name.clone(),
            handler: report.handler.clone(),
            path: report.path.clone(),
            sha256: report.sha256.clone(),
            served: served(&report.handler),
        };
        let ours = |name: &String| target.runtimes.iter().any(|wanted| wanted.runtime.name == *name);
        let runtimes: Vec<_> = plan.runtimes.iter().filter(|report| ours(&report.name)).map(runtime).collect();
        let platform = &observed.platform;
        let mut status = Self {
            version: 1,
            containerd: DaemonStatus {
                name: platform.kind.daemon(),
                version: platform.daemon.version.clone(),
                unit: platform.daemon.unit.clone(),
                config_path: platform.layout.path.display().to_string(),
                config_version: observed.config_version(),
            },
            problems: Vec::new(),
            runtimes,
        };
        status.problems = problems(prepared, &status.runtimes);
        status
    }

    /// Whether the node is as it should be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.problems.is_empty()
    }
}

fn problems(prepared: &Prepared, runtimes: &[RuntimeStatus]) -> Vec<String> {
    let Prepared { observed, plan, .. } = prepared;
    let mut problems = Vec::new();
    if observed.interrupted() {
        problems.push("an earlier run was cut off: `kwasm-installer recover` ends it".to_owned());
    }
    let lost = runtimes.iter().filter(|runtime| !runtime.served);
    problems.extend(
        lost.map(|runtime| {
            format!("the running {} does not serve {}", observed.platform.kind.daemon(), runtime.handler)
        }),
    );
    problems.extend(plan.change.iter().map(|step| format!("not done: {step}")));
    problems.extend(plan.cleanup.iter().map(|step| format!("left over: {step}")));
    if problems.is_empty() && !plan.is_empty(observed) {
        problems.push("the ledger does not say what is there: run `install` again".to_owned());
    }
    problems
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let daemon = &self.containerd;
        writeln!(
            f,
            "{} {} ({}), {} of version {}",
            daemon.name, daemon.version, daemon.unit, daemon.config_path, daemon.config_version
        )?;
        if self.runtimes.is_empty() {
            writeln!(f, "no runtime of ours is on this node")?;
        }
        for runtime in &self.runtimes {
            let served = if runtime.served { "served" } else { "not served" };
            write!(f, "{}: {served} (handler {}", runtime.name, runtime.handler)?;
            match &runtime.path {
                Some(path) => writeln!(f, ", {path})")?,
                None => writeln!(f, ")")?,
            }
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "not as it should be: {problem}"))
    }
}
