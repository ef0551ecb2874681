//! Which certificate is shown, by the name that a client asks for. The set is replaced as a whole while
//! connections go on; rustls does the rest.

use super::host::{HostRule, parent_of};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::crypto::aws_lc_rs::{default_provider, sign};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate with its key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It holds none, or something else.
    #[error("`tls.crt` is no certificate in PEM")]
    Certificate(#[source] pem::Error),
    /// There is nothing in it.
    #[error("`tls.crt` holds no certificate")]
    NoCertificate,
    /// It holds none, or something else.
    #[error("`tls.key` is no private key in PEM")]
    Key(#[source] pem::Error),
    /// A kind of key that TLS has no use for.
    #[error("`tls.key` cannot be used")]
    Unusable(#[source] rustls::Error),
    /// The key is another one's.
    #[error("`tls.key` is not the key of the certificate in `tls.crt`")]
    Mismatch(#[source] rustls::Error),
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// The one that is written in a Secret of the type `kubernetes.io/tls`.
    ///
    /// # Errors
    /// If it is not well written, or the two do not belong together.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(CertificateError::Certificate)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
        let key = sign::any_supported_type(&key).map_err(CertificateError::Unusable)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A key that does not tell is tried.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(error) => return Err(CertificateError::Mismatch(error)),
        }
        Ok(Self(Arc::new(certified)))
    }

    /// The first of its chain, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], |first| first.as_ref())
    }
}

/// Certificates by the names of sites.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    exact: HashMap<String, Certificate>,
    wildcards: HashMap<String, Certificate>,
    default: Option<Certificate>,
}

impl Certificates {
    /// Whoever asks for `host` is shown `certificate`, unless an earlier one is; false then. That of any
    /// host is for whoever asks for none that is known.
    pub fn add(&mut self, host: HostRule, certificate: Certificate) -> bool {
        let place = match host {
            HostRule::Any => {
                let free = self.default.is_none();
                self.default.get_or_insert(certificate);
                return free;
            }
            HostRule::Exact(name) => self.exact.entry(name),
            HostRule::Wildcard(parent) => self.wildcards.entry(parent),
        };
        match place {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(certificate);
                true
            }
        }
    }

    /// The certificate for `name`, or for who asks for none.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<&Certificate> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = || parent_of(&name).and_then(|parent| self.wildcards.get(parent));
        self.exact.get(&name).or_else(wildcard).or(self.default.as_ref())
    }
}

/// The certificates in force, as rustls asks for them.
#[derive(Debug, Default)]
pub(super) struct Shown(RwLock<Arc<Certificates>>);

impl Shown {
    /// From the next handshake on.
    pub(super) fn set(&self, certificates: Certificates) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        certificates.find(hello.server_name()).map(|certificate| Arc::clone(&certificate.0))
    }
}

/// TLS 1.2 and 1.3, with HTTP/2 for clients that know it.
///
/// # Errors
/// If the library lacks these versions.
pub(super) fn configuration(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    let mut configuration = builder.with_no_client_auth().with_cert_resolver(shown);
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(configuration)
}
