//! What a node's certificate says of it; pure.

use super::key_hash::KeyHash;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Kubernetes' group of all nodes, and what its nodes' user names begin with.
pub(super) const GROUP: &str = "system:nodes";
pub(super) const USER: &str = "system:node:";

/// What a node's certificate says. It is worth nothing until its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passport {
    /// The node's name.
    pub(crate) name: String,
    /// The cluster that it is a member of.
    pub(crate) cluster: String,
    /// The node's key.
    pub(crate) key: KeyHash,
    /// The first second in which it is good.
    pub(crate) from: Timestamp,
    /// The last.
    pub(crate) until: Timestamp,
}

/// Why a certificate is no node's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPassport {
    /// The bytes are no certificate.
    #[error("it is no X.509 certificate")]
    Unreadable,
    /// Its subject is somebody else.
    #[error("it is not a node's: its subject is {subject:?}")]
    NotANode {
        /// As X.509 writes it.
        subject: String,
    },
    /// It names no cluster, or the name in it is another than its subject's.
    #[error("it names no cluster")]
    NoCluster,
}

/// The URI by which a certificate names its cluster and node.
pub(super) fn uri(cluster: &str, name: &str) -> String {
    format!("spiffe://{cluster}/node/{name}")
}

impl Passport {
    /// What `certificate` says.
    ///
    /// # Errors
    /// If it is not a node's.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, NoPassport> {
        let (rest, read) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| NoPassport::Unreadable)?;
        if !rest.is_empty() {
            return Err(NoPassport::Unreadable);
        }
        let name = node(&read)
            .ok_or_else(|| NoPassport::NotANode { subject: read.subject().to_string() })?
            .to_owned();
        let cluster = cluster(&read, &name).ok_or(NoPassport::NoCluster)?;
        let at = |seconds| Timestamp::from_second(seconds).map_err(|_| NoPassport::Unreadable);
        let validity = read.validity();
        Ok(Self {
            cluster,
            key: KeyHash::of(read.public_key().raw),
            from: at(validity.not_before.timestamp())?,
            until: at(validity.not_after.timestamp())?,
            name,
        })
    }
}

/// The node that the subject names, if it is one.
fn node<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let subject = certificate.subject();
    let nodes = subject.iter_organization().any(|group| group.as_str() == Ok(GROUP));
    let mut names = subject.iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    name.as_str().ok()?.strip_prefix(USER).filter(|name| nodes && !name.is_empty())
}

/// The cluster of the certificate's URI, if that is `name`'s too.
fn cluster(certificate: &X509Certificate<'_>, name: &str) -> Option<String> {
    let alternatives = certificate.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|alternative| {
        let GeneralName::URI(text) = alternative else { return None };
        let (cluster, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
        (path.strip_prefix("node/") == Some(name)).then(|| cluster.to_owned())
    })
}
