//! The cluster's own certificate authority and the certificates it signs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::files::{self, FileError};

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The library refused.
    #[error("could not make the certificate of {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Who a certificate is for, as Kubernetes reads it: a user name and a group.
#[derive(Debug, Clone)]
pub(crate) struct Subject<'a> {
    /// The user name (common name).
    pub(crate) user: &'a str,
    /// The group (organization).
    pub(crate) group: Option<&'a str>,
}

/// A certificate and its key, as PEM text.
pub(crate) struct Certificate {
    /// The certificate.
    pub(crate) certificate: String,
    /// The private key.
    pub(crate) key: String,
}

impl Certificate {
    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<(), FileError> {
        files::write(&folder.join(format!("{name}.crt")), &self.certificate)?;
        files::write_secret(&folder.join(format!("{name}.key")), &self.key)
    }
}

/// The authority, kept in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// The authority kept in this folder.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes the authority and the key pair that signs service account tokens.
    pub(crate) fn make(&self) -> Result<(), PkiError> {
        let failed = |source| PkiError::Certificate { subject: "the authority".to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let certificate = params.self_signed(&key).map_err(failed)?;
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }.write(&self.folder, "ca")?;
        let tokens = KeyPair::generate().map_err(failed)?;
        files::write(&self.folder.join("service-accounts.pub"), tokens.public_key_pem())?;
        Ok(files::write_secret(&self.folder.join("service-accounts.key"), tokens.serialize_pem())?)
    }

    /// Where the authority's certificate is.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Signs a certificate with which `subject` proves who it is.
    pub(crate) fn client(&self, subject: &Subject<'_>) -> Result<Certificate, PkiError> {
        self.sign(subject, ExtendedKeyUsagePurpose::ClientAuth, &[], &[])
    }

    /// Signs a certificate for a server that is reached at these addresses and names.
    pub(crate) fn server(&self, user: &str, addresses: &[Ipv4Addr], names: &[&str]) -> Result<Certificate, PkiError> {
        let subject = Subject { user, group: None };
        self.sign(&subject, ExtendedKeyUsagePurpose::ServerAuth, addresses, names)
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        usage: ExtendedKeyUsagePurpose,
        addresses: &[Ipv4Addr],
        names: &[&str],
    ) -> Result<Certificate, PkiError> {
        let failed = |source| PkiError::Certificate { subject: subject.user.to_owned(), source };
        let authority_key = files::read(&self.folder.join("ca.key"))?;
        let authority_key = KeyPair::from_pem(&authority_key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&files::read(&self.certificate())?, authority_key).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(IpAddr::V4(*address))));
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(*name).map_err(failed)?));
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A kubeconfig that holds all it needs, for `subject` at the API server `server`.
    pub(crate) fn kubeconfig(&self, cluster: &str, server: &str, subject: &Subject<'_>) -> Result<String, PkiError> {
        let client = self.client(subject)?;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {
                "server": server,
                "certificate-authority-data": encode(&files::read(&self.certificate())?),
            }}],
            "users": [{"name": subject.user, "user": {
                "client-certificate-data": encode(&client.certificate),
                "client-key-data": encode(&client.key),
            }}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": subject.user}}],
            "current-context": cluster,
        });
        Ok(format!("{config:#}\n"))
    }
}
