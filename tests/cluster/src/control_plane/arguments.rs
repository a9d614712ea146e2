//! Where the control plane keeps its files, and what its programs are told.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::network::Network;

/// The usual port; no cluster is in another's way, as each has its own address.
pub(crate) const API_SERVER_PORT: u16 = 6443;
/// The addresses of Services. The same in every cluster: only its own nodes know them.
const SERVICES: &str = "10.96.0.0/16";
/// The Service `kubernetes`, the first address of the range.
pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where pods would ask for names. Nothing answers there: the cluster has no DNS.
pub(crate) const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// The files of a control plane.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The cluster's folder.
    pub(crate) folder: PathBuf,
    /// Its addresses.
    pub(crate) network: Network,
}

impl Layout {
    /// Certificates and keys.
    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// The kubeconfig of a client.
    pub(crate) fn kubeconfig(&self, client: &str) -> PathBuf {
        self.folder.join(format!("{client}.kubeconfig"))
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// What a program prints.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.logs().join(format!("{program}.log"))
    }

    /// What the API server writes down.
    pub(super) fn audit_policy(&self) -> PathBuf {
        self.folder.join("audit-policy.yaml")
    }

    /// The network namespace.
    pub(crate) fn namespace(&self) -> PathBuf {
        self.folder.join("namespaces/control-plane")
    }

    fn key_pair(&self, name: &str) -> (String, String) {
        let path = |ending| self.pki().join(format!("{name}.{ending}")).display().to_string();
        (path("crt"), path("key"))
    }
}

/// etcd listens on the loopback address of the control plane's own network namespace, where
/// nobody else is.
pub(super) fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        format!("--data-dir={}", layout.folder.join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=default=http://127.0.0.1:2380".to_owned(),
        // A test cluster does not outlive the machine's power.
        "--unsafe-no-fsync".to_owned(),
    ]
}

/// The API server.
pub(super) fn api_server(layout: &Layout) -> Vec<String> {
    let authority = layout.pki().join("ca.crt").display().to_string();
    let tokens = layout.pki().join("service-accounts.key").display().to_string();
    let (certificate, key) = layout.key_pair("apiserver");
    let (client_certificate, client_key) = layout.key_pair("kubelet-client");
    vec![
        format!("--advertise-address={}", layout.network.control_plane()),
        format!("--secure-port={API_SERVER_PORT}"),
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--client-ca-file={authority}"),
        format!("--tls-cert-file={certificate}"),
        format!("--tls-private-key-file={key}"),
        format!("--kubelet-certificate-authority={authority}"),
        format!("--kubelet-client-certificate={client_certificate}"),
        format!("--kubelet-client-key={client_key}"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={tokens}"),
        format!("--service-account-key-file={}", layout.pki().join("service-accounts.pub").display()),
        format!("--audit-policy-file={}", layout.audit_policy().display()),
        format!("--audit-log-path={}", layout.logs().join("audit.log").display()),
    ]
}

/// The controllers.
pub(super) fn controller_manager(layout: &Layout) -> Vec<String> {
    let config = layout.kubeconfig("kube-controller-manager").display().to_string();
    let (authority, authority_key) = layout.key_pair("ca");
    vec![
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", layout.pki().join("service-accounts.key").display()),
        format!("--root-ca-file={authority}"),
        format!("--cluster-signing-cert-file={authority}"),
        format!("--cluster-signing-key-file={authority_key}"),
        format!("--cluster-cidr={}", layout.network.all_pods()),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--leader-elect=false".to_owned(),
    ]
}

/// The scheduler.
pub(super) fn scheduler(layout: &Layout) -> Vec<String> {
    let config = layout.kubeconfig("kube-scheduler").display().to_string();
    vec![
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--leader-elect=false".to_owned(),
    ]
}
