//! The cluster's certificate authority. Its key signs the certificates of all nodes; who has it
//! can let nodes in.

use super::key_hash::KeyHash;
use super::passport::{GROUP, USER, uri};
use super::trust::TrustError;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// As kubeadm's.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks differ: a certificate is good from before it was made.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A cluster's authority, with its key.
pub(crate) struct ClusterCa {
    cluster: String,
    certificate_pem: String,
    until: Timestamp,
    issuer: Issuer<'static, KeyPair>,
}

/// The authority, or a certificate, cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// What is kept of the authority cannot be used.
    #[error("the cluster's authority cannot be read")]
    Read(#[source] rcgen::Error),
    /// What is kept of the authority holds no certificate.
    #[error("the cluster's authority has no certificate")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// What is kept of the authority names no cluster, or is of another key.
    #[error("the authority's certificate is not that of its key, or names no cluster")]
    Mismatch,
    /// What was asked for is no certificate request, or not signed by its key.
    #[error("the certificate request is not a valid one")]
    Request(#[source] rcgen::Error),
    /// No key or certificate can be made.
    #[error("cannot sign")]
    Sign(#[source] rcgen::Error),
    /// The kernel gives no random bytes.
    #[error("there are no random bytes")]
    Random(#[source] getrandom::Error),
    /// The authority's own certificate ends before the new one would begin.
    #[error("the cluster's authority has expired")]
    Expired,
    /// The authority cannot be trusted by what reads it.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject<'a> {
    /// The node's name.
    pub(crate) name: &'a str,
    /// Where its peers find it, `host:port`; an IP address of it becomes part of the certificate.
    pub(crate) address: &'a str,
}

/// A name for a new cluster: 16 hex digits.
///
/// # Errors
/// If the kernel gives no random bytes.
pub(crate) fn new_cluster_id() -> Result<String, AuthorityError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(AuthorityError::Random)?;
    Ok(hex::encode(bytes))
}

/// Adds without a panic at the end of time.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_sub(by).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Sets when a certificate is good. Its times have seconds and no parts of them.
fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(until);
}

/// Never twice the same, though a node keeps its key.
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(AuthorityError::Random)?;
    // Serial numbers are positive, and have no leading zero.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// A new authority for the new cluster `cluster_id`.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub(crate) fn generate(cluster_id: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("keel cluster {cluster_id}"));
        let name = format!("spiffe://{cluster_id}").try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        set_validity(&mut params, earlier(now, BACKDATED), later(now, AUTHORITY_LIFETIME));
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        Self::from_pem(&(certificate.pem() + &key.serialize_pem()))
    }

    /// The authority as [`ClusterCa::to_pem`] wrote it.
    ///
    /// # Errors
    /// If it is not that.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(AuthorityError::Certificate)?;
        let key_pem = pem.find("-----BEGIN PRIVATE KEY-----").map_or("", |start| &pem[start..]);
        let certificate_pem = pem[..pem.len() - key_pem.len()].to_owned();
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Read)?;
        if KeyHash::of_certificate(&certificate) != Some(KeyHash::of(&key.subject_public_key_info())) {
            return Err(AuthorityError::Mismatch);
        }
        let (cluster, until) = cluster(&certificate).ok_or(AuthorityError::Mismatch)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Read)?;
        Ok(Self { cluster, certificate_pem, until, issuer })
    }

    /// The whole authority, its key too: PEM, to be kept as a secret.
    pub(crate) fn to_pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.issuer.key().serialize_pem())
    }

    /// Its certificate, PEM; no secret.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The cluster that it is of.
    #[cfg(test)]
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What join tokens pin.
    pub(crate) fn pin(&self) -> KeyHash {
        KeyHash::of(&self.issuer.key().subject_public_key_info())
    }

    /// Belief in this authority alone.
    #[cfg(test)]
    ///
    /// # Errors
    /// If it can be no authority, whatever its file says.
    pub(crate) fn trust(&self) -> Result<super::trust::Trust, AuthorityError> {
        Ok(super::trust::Trust::from_pem(&self.cluster, &self.certificate_pem)?)
    }

    /// A certificate for `subject` and the key that signed `request` (PKCS #10, DER), good from an
    /// hour before `now` until `lifetime` after it, or until the authority's own end. What else
    /// the request asks for is not listened to.
    ///
    /// # Errors
    /// If the request is not signed by its own key, or the authority has expired.
    pub(crate) fn sign(
        &self,
        request: &[u8],
        subject: Subject<'_>,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(AuthorityError::Request)?;
        let until = later(now, lifetime).min(self.until);
        if until <= now {
            return Err(AuthorityError::Expired);
        }
        let mut params = node_params(&self.cluster, subject)?;
        set_validity(&mut params, earlier(now, BACKDATED), until);
        let signed: Result<Certificate, _> = params.signed_by(&request.public_key, &self.issuer);
        Ok(signed.map_err(AuthorityError::Sign)?.pem() + &self.certificate_pem)
    }
}

/// The key that signed `request` (PKCS #10, DER).
///
/// # Errors
/// If it is none, or the signature is not that key's.
pub(super) fn key_of_request(request: &[u8]) -> Result<KeyHash, AuthorityError> {
    let request = CertificateSigningRequestDer::from(request);
    let read = CertificateSigningRequestParams::from_der(&request).map_err(AuthorityError::Request)?;
    Ok(KeyHash::of(&read.public_key.subject_public_key_info()))
}

/// What every certificate of a node says.
fn node_params(cluster: &str, subject: Subject<'_>) -> Result<CertificateParams, AuthorityError> {
    let Subject { name, address } = subject;
    let text = |text: String| text.try_into().map_err(AuthorityError::Sign);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, GROUP);
    params.distinguished_name.push(DnType::CommonName, format!("{USER}{name}"));
    params.subject_alt_names =
        vec![SanType::URI(text(uri(cluster, name))?), SanType::DnsName(text(name.to_owned())?)];
    params.subject_alt_names.extend(ip(address).map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn ip(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// The cluster that an authority's certificate names, and when it ends.
fn cluster(certificate: &CertificateDer<'_>) -> Option<(String, Timestamp)> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let alternatives = read.subject_alternative_name().ok()??;
    let cluster = alternatives.value.general_names.iter().find_map(|alternative| {
        let x509_parser::extensions::GeneralName::URI(text) = alternative else { return None };
        text.strip_prefix("spiffe://").filter(|rest| !rest.contains('/')).map(str::to_owned)
    })?;
    Some((cluster, Timestamp::from_second(read.validity().not_after.timestamp()).ok()?))
}
