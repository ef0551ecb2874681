//! TLS 1.3 between peers, on rustls.
//!
//! The server takes any certificate whose key the client proves to have, and none at all:
//! whether it may do anything is decided per call, where a refusal can have words. TLS could
//! answer with an alert only.

use super::key_hash::KeyHash;
use super::papers::Papers;
use super::trust::{Stranger, Trust, provider};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};
use std::sync::Arc;

const PROTOCOL: &[u8] = b"h2";

/// The certificate that is shown, whichever it is by then.
#[derive(Debug)]
struct Shown(Papers);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.identity().certified()))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.identity().certified()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Lets everybody in who has the key of the certificate that is shown.
#[derive(Debug)]
struct KeyHolders(Arc<CryptoProvider>);

/// Whom the other end of a connection has to be.
#[derive(Debug)]
pub(super) enum Expected {
    /// The member of this name.
    Member { papers: Papers, name: String },
    /// Any member of the cluster whose authority has this key.
    Pinned { authority: KeyHash },
}

#[derive(Debug)]
struct Peer {
    expected: Expected,
    provider: Arc<CryptoProvider>,
}

/// TLS 1.2 is not spoken.
fn no_tls12() -> Error {
    Error::General("peers speak TLS 1.3".into())
}

impl ClientCertVerifier for KeyHolders {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Expected {
    fn check(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Stranger> {
        match self {
            Self::Member { papers, name } => {
                let passport = papers.examine(chain, now)?;
                if passport.name != *name {
                    return Err(Stranger::SomebodyElse { name: passport.name, expected: name.clone() });
                }
                Ok(())
            }
            Self::Pinned { authority } => pinned(*authority, chain, now),
        }
    }
}

/// A member is at the other end, by the word of the authority whose key is `pin`.
fn pinned(pin: KeyHash, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Stranger> {
    let own = chain.first().ok_or(Stranger::Nobody)?;
    let passport = super::passport::Passport::read(own).map_err(Stranger::NoPassport)?;
    let unknown = || Stranger::NotSigned { name: passport.name.clone() };
    let authority = chain.iter().skip(1).find(|shown| KeyHash::of_certificate(shown) == Some(pin));
    let authority = authority.ok_or_else(unknown)?.clone().into_owned();
    let trust = Trust::new(&passport.cluster, vec![authority]).map_err(|_| unknown())?;
    trust.examine(chain, now).map(drop)
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(own).chain(others).cloned().collect();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        match self.expected.check(&chain, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(stranger) => {
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(stranger)))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How peers are answered.
///
/// # Errors
/// If the provider has no TLS 1.3.
pub(super) fn server(papers: Papers) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(KeyHolders(provider)))
        .with_cert_resolver(Arc::new(Shown(papers)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed session would bring back a certificate of before. Connections last; new ones
    // are few.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a peer is asked: with `papers`' certificate if there is one.
///
/// # Errors
/// If the provider has no TLS 1.3.
pub(super) fn client(expected: Expected, papers: Option<Papers>) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Peer { expected, provider }));
    let mut config = match papers {
        Some(papers) => builder.with_client_cert_resolver(Arc::new(Shown(papers))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    // The name is checked against the certificate; who listens need not know who is asked.
    config.enable_sni = false;
    Ok(Arc::new(config))
}
