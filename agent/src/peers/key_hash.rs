//! Names a public key by its digest.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "sha256:";

/// SHA-256 of a key's `SubjectPublicKeyInfo` (DER), as kubeadm and HPKP have it: written
/// `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyHash([u8; 32]);

/// Not `sha256:` and 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`sha256:` and 64 hex digits are expected")]
pub(crate) struct NoKeyHash;

impl KeyHash {
    /// The hash of the key whose `SubjectPublicKeyInfo` is `info`.
    pub(crate) fn of(info: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, info).as_ref());
        Self(hash)
    }

    /// Whether both are of the same secret; takes as long whether or not.
    pub(crate) fn is_same_secret(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// The hash of the key of `certificate`, if that can be read.
    pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self::of(read.public_key().raw))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyHash {
    type Err = NoKeyHash;

    fn from_str(text: &str) -> Result<Self, NoKeyHash> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix(PREFIX).ok_or(NoKeyHash)?;
        hex::decode_to_slice(digits, &mut hash).map_err(|_| NoKeyHash)?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = NoKeyHash;

    fn try_from(text: String) -> Result<Self, NoKeyHash> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}
