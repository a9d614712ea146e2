//! What is on a node, and whether it is as it should be.

use std::fmt;
use std::path::{Path, PathBuf};

use kwasm_api::report::RuntimeReport;
use serde::Serialize;

use crate::artifacts::runtimes_dir;
use crate::observe::{Observed, Standing};
use crate::platform::Form;
use crate::run::Prepared;
use crate::target::{Target, Wanted};

/// A node as `kwasm-installer status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The document's version: 1.
    version: u32,
    containerd: DaemonStatus,
    runtimes: Vec<RuntimeStatus>,
    /// Programs of ours that go when nobody runs them any more.
    leaving: Vec<String>,
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
    /// Whether the running daemon serves the handler as it is configured, or finds the shim by its name.
    served: bool,
    /// The link on the daemon's `PATH` by which it finds the shim, where no configuration names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

impl Status {
    /// Judges a node by what bringing it to its own ledger would take: nothing, if all is well.
    #[must_use]
    pub fn of(prepared: &Prepared, target: &Target) -> Self {
        let Prepared { observed, effective, plan } = prepared;
        let by_name = observed.platform.layout.form == Form::ByName;
        let found = |report: &RuntimeReport| {
            let shim = report.path.as_deref().map(Path::new).filter(|_| by_name)?;
            let link = observed.named.iter().find(|(_, to)| *to == shim).map(|(link, _)| link);
            let leads = |link: &&PathBuf| observed.links.get(*link) == Some(&Standing::Link(shim.to_owned()));
            link.filter(leads).map(|link| link.display().to_string())
        };
        let served = |handler: &str| {
            let entry = plan.expected.entries.iter().find(|entry| entry.handler == handler);
            entry.map_or_else(
                || effective.cri.handlers.contains_key(handler),
                |entry| effective.cri.ready && effective.cri.serves(entry),
            )
        };
        let runtime = |report: &RuntimeReport| {
            let link = found(report);
            RuntimeStatus {
                name: report.name.clone(),
                handler: report.handler.clone(),
                path: report.path.clone(),
                sha256: report.sha256.clone(),
                served: if by_name { link.is_some() } else { served(&report.handler) },
                link,
            }
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
            leaving: leaving(observed, target),
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

fn leaving(observed: &Observed, target: &Target) -> Vec<String> {
    let runtimes = runtimes_dir(&observed.install_dir);
    let stays = |program: &Path| {
        let mut names = target.runtimes.iter().filter_map(Wanted::artifact);
        names.any(|name| program.starts_with(runtimes.join(name)))
    };
    let processes = observed.processes.iter().filter(|process| !stays(&process.program));
    processes.map(ToString::to_string).collect()
}

fn problems(prepared: &Prepared, runtimes: &[RuntimeStatus]) -> Vec<String> {
    let Prepared { observed, plan, .. } = prepared;
    let by_name = observed.platform.layout.form == Form::ByName;
    let mut problems = Vec::new();
    if observed.interrupted() {
        problems.push("an earlier run was cut off: `kwasm-installer recover` ends it".to_owned());
    }
    let lost = runtimes.iter().filter(|runtime| !runtime.served);
    problems.extend(lost.map(|runtime| {
        if by_name {
            format!("containerd does not find the shim of {} by its name", runtime.name)
        } else {
            format!("the running {} does not serve {}", observed.platform.kind.daemon(), runtime.handler)
        }
    }));
    let steps = plan.change.iter().chain(&plan.cleanup);
    problems.extend(steps.map(|step| format!("the next run has to {step}")));
    if problems.is_empty() && !plan.is_empty(observed) {
        problems.push("the ledger does not say what is there: run `install` again".to_owned());
    }
    problems
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let daemon = &self.containerd;
        write!(f, "{} {} ({}), {}", daemon.name, daemon.version, daemon.unit, daemon.config_path)?;
        match daemon.config_version {
            0 => writeln!(f)?,
            version => writeln!(f, " of version {version}")?,
        }
        if self.runtimes.is_empty() {
            writeln!(f, "no runtime of ours is on this node")?;
        }
        for runtime in &self.runtimes {
            let served = match &runtime.link {
                Some(link) => format!("found by its name, {link}"),
                None if runtime.served => "served".to_owned(),
                None => "not served".to_owned(),
            };
            write!(f, "{}: {served} (handler {}", runtime.name, runtime.handler)?;
            match &runtime.path {
                Some(path) => writeln!(f, ", {path})")?,
                None => writeln!(f, ")")?,
            }
        }
        if !self.leaving.is_empty() {
            writeln!(f, "until they end, their programs stay: {}", self.leaving.join(", "))?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "not as it should be: {problem}"))
    }
}
