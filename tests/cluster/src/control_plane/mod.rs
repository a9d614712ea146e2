//! The control plane: processes in a network namespace of their own.

mod arguments;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::files::{self, FileError};
use crate::ledger::{Ledger, Made};
use crate::network::Network;
use crate::pki::{Authority, PkiError, Subject};
use crate::process::{Program, StartError, start};
use crate::session::{Session, WaitError};
use crate::tool;

pub(crate) use arguments::{API_SERVER_PORT, CLUSTER_DNS, Layout};

/// How long the API server may take; 4 s is usual on two idle cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// What it consists of.
pub(crate) const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// A control plane that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// Its certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// One of its programs.
    #[error(transparent)]
    Start(#[from] StartError),
    /// One of its programs ended.
    #[error("{name} ended; the end of its log {}:\n{said}", log.display())]
    Ended {
        /// The program.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The end of that.
        said: String,
    },
    /// It did not answer.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// What the control plane is made from.
pub(crate) struct ControlPlane<'a> {
    /// The cluster's folder.
    pub(crate) folder: &'a Path,
    /// The cluster's name, for the kubeconfigs.
    pub(crate) name: &'a str,
    /// The program that is all programs.
    pub(crate) hyperkube: &'a Path,
    /// Its addresses.
    pub(crate) network: Network,
    /// The cgroup it runs in.
    pub(crate) cgroup: Cgroup,
}

impl ControlPlane<'_> {
    fn layout(&self) -> Layout {
        Layout { folder: self.folder.to_owned(), network: self.network }
    }

    /// The address of the API server.
    pub(crate) fn server(&self) -> String {
        format!("https://{}:{API_SERVER_PORT}", self.network.control_plane())
    }

    /// Makes certificates, kubeconfigs and the audit policy.
    pub(crate) fn write_files(&self) -> Result<(), ControlPlaneError> {
        let layout = self.layout();
        let authority = Authority::at(layout.pki());
        authority.make()?;
        let addresses = [self.network.control_plane(), arguments::API_SERVICE, std::net::Ipv4Addr::LOCALHOST];
        let names =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        authority.server("kube-apiserver", &addresses, &names)?.write(&layout.pki(), "apiserver")?;
        let to_kubelets = Subject { user: "kube-apiserver-kubelet-client", group: Some("system:masters") };
        authority.client(&to_kubelets)?.write(&layout.pki(), "kubelet-client")?;
        for (file, user, group) in [
            (layout.kubeconfig("admin"), "kubernetes-admin", Some("system:masters")),
            (layout.kubeconfig("kube-controller-manager"), "system:kube-controller-manager", None),
            (layout.kubeconfig("kube-scheduler"), "system:kube-scheduler", None),
        ] {
            let text = authority.kubeconfig(self.name, &self.server(), &Subject { user, group })?;
            files::write_secret(&file, text)?;
        }
        files::write(&layout.audit_policy(), include_str!("audit-policy.yaml"))?;
        files::make_folder(&layout.logs())?;
        Ok(())
    }

    /// Starts the store and the API server.
    pub(crate) fn start_api(&self, ledger: &Ledger) -> Result<(), ControlPlaneError> {
        let layout = self.layout();
        self.start("etcd", arguments::etcd(&layout), ledger)?;
        self.start("kube-apiserver", arguments::api_server(&layout), ledger)
    }

    /// Waits until the API server is ready, then starts what needs it.
    pub(crate) fn finish(&self, ledger: &Ledger, session: &Session) -> Result<(), ControlPlaneError> {
        let address = (self.network.control_plane(), API_SERVER_PORT).into();
        let second = Duration::from_secs(1);
        session.wait("the API server to be ready", PATIENCE, || {
            // One that ended is reported right away, not waited for.
            if let Err(ended) = self.check(ledger) {
                return Ok(Err(ended));
            }
            std::net::TcpStream::connect_timeout(&address, second).map_err(|error| error.to_string())?;
            let mut look = kubectl(self.hyperkube, &self.layout().kubeconfig("admin"));
            tool::run(look.args(["get", "--raw", "/readyz"])).map(|_| Ok(())).map_err(|error| error.to_string())
        })??;
        let layout = self.layout();
        self.start("kube-controller-manager", arguments::controller_manager(&layout), ledger)?;
        self.start("kube-scheduler", arguments::scheduler(&layout), ledger)
    }

    /// An error if one of the programs that were started ended.
    fn check(&self, ledger: &Ledger) -> Result<(), ControlPlaneError> {
        for made in ledger.entries() {
            if let Made::Process { what, id } = made
                && PROGRAMS.contains(&what.as_str())
                && !id.is_alive()
            {
                let log = self.layout().log(&what);
                let said = tool::tail(&std::fs::read_to_string(&log).unwrap_or_default(), 5);
                return Err(ControlPlaneError::Ended { name: what, log, said });
            }
        }
        Ok(())
    }

    fn start(&self, name: &str, arguments: Vec<String>, ledger: &Ledger) -> Result<(), ControlPlaneError> {
        let layout = self.layout();
        let mut words = vec![self.hyperkube.display().to_string(), name.to_owned()];
        words.extend(arguments);
        let log = layout.log(name);
        let namespace = layout.namespace();
        let id = start(&Program { words, cgroup: &self.cgroup, network: Some(&namespace), log: &log })?;
        ledger.note(&Made::Process { what: name.to_owned(), id })?;
        Ok(())
    }
}

/// A kubectl with a kubeconfig, without its arguments.
pub(crate) fn kubectl(hyperkube: &Path, kubeconfig: &Path) -> Command {
    let mut command = tool::command(hyperkube, ["kubectl", "--kubeconfig"]);
    command.arg(kubeconfig).env_remove("KUBECONFIG");
    // Discovery is cached per cluster address, and addresses are used again by later clusters.
    let cache: PathBuf = kubeconfig.with_file_name("kubectl-cache");
    command.arg("--cache-dir").arg(cache);
    command
}
