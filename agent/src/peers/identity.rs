//! Who this node is to its peers: its key, its certificate, and whom it believes.

use super::folder::Membership;
use super::passport::{NoPassport, Passport};
use super::trust::{Trust, TrustError};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// The key of this node. It never leaves the node.
pub(crate) struct NodeKey(KeyPair);

/// A node with a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    passport: Passport,
    certified: Arc<CertifiedKey>,
    trust: Arc<Trust>,
}

/// A node's key or certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The key cannot be made, read or used to ask for a certificate.
    #[error("the node's key cannot be used")]
    Key(#[source] rcgen::Error),
    /// The key's PEM cannot be read by what uses it.
    #[error("the node's key cannot be read")]
    KeyPem(#[source] rustls::pki_types::pem::Error),
    /// The certificates are no PEM.
    #[error("the node's certificate cannot be read")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// The certificate is not a node's.
    #[error("the node's certificate cannot be used")]
    Certificate(#[source] NoPassport),
    /// The certificate is of another key, or the key is of a kind that is not known.
    #[error("the node's certificate and key do not fit")]
    Mismatch(#[source] rustls::Error),
    /// The certificate is of another cluster than its authorities.
    #[error("the node's certificate is of another cluster than its authorities")]
    OtherCluster,
    /// The authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

impl NodeKey {
    /// A new key (ECDSA, P-256).
    ///
    /// # Errors
    /// If there are no random bytes.
    pub(crate) fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate().map(Self).map_err(IdentityError::Key)
    }

    /// The key that `pem` holds.
    ///
    /// # Errors
    /// If it holds none.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        KeyPair::from_pem(pem).map(Self).map_err(IdentityError::Key)
    }

    /// The key, to be kept as a secret.
    pub(crate) fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Asks for a certificate (PKCS #10, DER). Whom it is for, the authority says.
    ///
    /// # Errors
    /// If signing fails.
    pub(crate) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let request = CertificateParams::default().serialize_request(&self.0).map_err(IdentityError::Key)?;
        Ok(request.der().to_vec())
    }
}

impl Identity {
    /// The node whose certificate, and its authority's, `certificates` (PEM) are, with `key`.
    ///
    /// # Errors
    /// If they do not fit, or are of another cluster than `trust`.
    pub(crate) fn new(certificates: &str, key: &NodeKey, trust: Arc<Trust>) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect();
        let chain = chain.map_err(IdentityError::Pem)?;
        let own = chain.first().ok_or(IdentityError::Certificate(NoPassport::Unreadable))?;
        let passport = Passport::read(own).map_err(IdentityError::Certificate)?;
        if passport.cluster != trust.cluster() {
            return Err(IdentityError::OtherCluster);
        }
        let key = PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes()).map_err(IdentityError::KeyPem)?;
        let certified = CertifiedKey::from_der(chain, key, &super::trust::provider());
        let certified = Arc::new(certified.map_err(IdentityError::Mismatch)?);
        Ok(Self { passport, certified, trust })
    }

    /// The node that `membership` makes, with `key`.
    ///
    /// # Errors
    /// If they do not fit.
    pub(crate) fn kept(membership: &Membership, key: &NodeKey) -> Result<Self, IdentityError> {
        let own = CertificateDer::from_pem_slice(membership.certificates.as_bytes());
        let passport =
            Passport::read(&own.map_err(IdentityError::Pem)?).map_err(IdentityError::Certificate)?;
        let trust = Trust::from_pem(&passport.cluster, &membership.authorities)?;
        Self::new(&membership.certificates, key, Arc::new(trust))
    }

    /// What the certificate says.
    pub(crate) fn passport(&self) -> &Passport {
        &self.passport
    }

    /// Whom the node believes.
    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// What handshakes show.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}
