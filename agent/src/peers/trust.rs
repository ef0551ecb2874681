//! Whom a node of this cluster believes; pure.

use super::key_hash::KeyHash;
use super::passport::{NoPassport, Passport};
use base64::Engine as _;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::sync::Arc;
use std::time::Duration;

/// The authorities of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    cluster: String,
    authorities: Vec<CertificateDer<'static>>,
    chains: Arc<dyn ClientCertVerifier>,
}

/// A cluster's authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// It is no PEM.
    #[error("the authorities are no PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It holds no certificate, or one that can be no authority.
    #[error("the authorities are no certificates")]
    Certificates(#[source] rustls::server::VerifierBuilderError),
    /// One of them cannot be used.
    #[error("an authority cannot be used")]
    Authority(#[source] rustls::Error),
}

/// Why somebody is not believed. The words are for the other side to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// Nothing was shown.
    #[error("no certificate was shown; a node becomes a member with `keel join`")]
    Nobody,
    /// Something else than a node's certificate was shown.
    #[error("the certificate that was shown is not accepted: {0}")]
    NoPassport(NoPassport),
    /// A node of another cluster.
    #[error("the certificate of {name} is of cluster {theirs}; this is cluster {ours}")]
    OtherCluster {
        /// The node.
        name: String,
        /// Its cluster.
        theirs: String,
        /// This one.
        ours: String,
    },
    /// Somebody else signed it, or nobody did.
    #[error("the certificate of {name} is not signed by an authority of this cluster")]
    NotSigned {
        /// The node that it names.
        name: String,
    },
    /// Not good yet.
    #[error("the certificate of {name} is not good before {from} (is a clock wrong?)")]
    TooEarly {
        /// The node.
        name: String,
        /// When it will be.
        from: Timestamp,
    },
    /// Good no more; otherwise there is nothing wrong with it.
    #[error("the certificate of {} expired at {}; it can only be renewed", .0.name, .0.until)]
    Expired(Box<Passport>),
    /// The node's key is a member's no more.
    #[error("{name} was removed from the cluster; its key is not accepted any more")]
    Removed {
        /// The node.
        name: String,
    },
    /// Somebody, but not who was expected.
    #[error("{expected} was expected, and the certificate is that of {name}")]
    SomebodyElse {
        /// The node.
        name: String,
        /// Who should be there.
        expected: String,
    },
}

/// The provider of every cryptographic operation between peers.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Trust {
    /// The authorities of `cluster` that the PEM text `authorities` holds.
    ///
    /// # Errors
    /// If one of them cannot be used, or there is none.
    pub(crate) fn from_pem(cluster: &str, authorities: &str) -> Result<Self, TrustError> {
        let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
        Self::new(cluster, authorities.map_err(TrustError::Pem)?)
    }

    /// Belief in what `authorities` sign for nodes of `cluster`.
    ///
    /// # Errors
    /// As [`Trust::from_pem`].
    pub(crate) fn new(cluster: &str, authorities: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(TrustError::Authority)?;
        }
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(TrustError::Certificates)?;
        Ok(Self { cluster: cluster.to_owned(), authorities, chains })
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its authorities, PEM.
    pub(crate) fn to_pem(&self) -> String {
        let pem = |authority: &CertificateDer<'_>| {
            let text = base64::engine::general_purpose::STANDARD.encode(authority);
            let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
            for line in text.as_bytes().chunks(64) {
                pem.push_str(&String::from_utf8_lossy(line));
                pem.push('\n');
            }
            pem + "-----END CERTIFICATE-----\n"
        };
        self.authorities.iter().map(pem).collect()
    }

    /// The keys of its authorities.
    pub(crate) fn pins(&self) -> impl Iterator<Item = KeyHash> {
        self.authorities.iter().filter_map(KeyHash::of_certificate)
    }

    /// Who shows the certificates `chain` at `now`, its own first. That it has the key too is
    /// for the handshake to find out.
    ///
    /// # Errors
    /// Why nobody of this cluster does.
    pub(crate) fn examine(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Passport, Stranger> {
        let (own, others) = chain.split_first().ok_or(Stranger::Nobody)?;
        let passport = Passport::read(own).map_err(Stranger::NoPassport)?;
        let name = || passport.name.clone();
        if passport.cluster != self.cluster {
            let (theirs, ours) = (passport.cluster.clone(), self.cluster.clone());
            return Err(Stranger::OtherCluster { name: name(), theirs, ours });
        }
        // Whether it is good now is a question of its own: what expired is told from what is false.
        let seconds = now.clamp(passport.from, passport.until.max(passport.from)).as_second();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds.unsigned_abs()));
        if self.chains.verify_client_cert(own, others, at).is_err() {
            return Err(Stranger::NotSigned { name: name() });
        }
        is_good(&passport, now)?;
        Ok(passport)
    }
}

/// `passport` is good at `now`.
///
/// # Errors
/// If it is not yet, or no more.
pub(super) fn is_good(passport: &Passport, now: Timestamp) -> Result<(), Stranger> {
    if now.as_second() < passport.from.as_second() {
        return Err(Stranger::TooEarly { name: passport.name.clone(), from: passport.from });
    }
    if now.as_second() > passport.until.as_second() {
        return Err(Stranger::Expired(Box::new(passport.clone())));
    }
    Ok(())
}
