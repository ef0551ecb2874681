//! The key of this node's tokens: ECDSA on P-256, made once and kept.

use super::claims::Claims;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Who says that it is so, in every token; also the audience of a token for nobody in
/// particular. It is the one that clusters have by default.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What stands before the point in the encoding of a P-256 public key. Source: RFC 5480.
const PUBLIC_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The node's key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// Its file cannot be read or written.
    #[error("cannot {operation} the key of service account tokens {path}")]
    Io {
        /// `read`, `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in the file is no key.
    #[error("{path} holds no ECDSA key; once it is moved away, a new one is made")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The machine has no randomness to offer, or the like.
    #[error("a key for service account tokens cannot be made")]
    Make,
    /// The signature could not be made.
    #[error("a service account token cannot be signed")]
    Sign,
}

/// Signs this node's tokens.
#[derive(Debug)]
pub struct TokenKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl TokenKey {
    /// The key in the file `path`, which is made, with mode 0600, if it is not there.
    ///
    /// # Errors
    /// [`TokenKeyError`].
    pub fn open(path: &Path) -> Result<Self, TokenKeyError> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(source) => {
                return Err(TokenKeyError::Io { operation: "read", path: path.to_owned(), source });
            }
            Ok(text) => text,
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &text)
            .map_err(|_| TokenKeyError::NoKey { path: path.to_owned() })?;
        let mut public = Sha256::new();
        public.update(PUBLIC_KEY_PREFIX);
        public.update(pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(public.finalize());
        Ok(Self { pair, id })
    }

    /// What others need to verify tokens: a JSON Web Key Set. Source: RFC 7517.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // 4, x, y: uncompressed, 32 bytes each.
        let part = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        json!({"keys": [{
            "alg": "ES256", "crv": "P-256", "kid": self.id, "kty": "EC", "use": "sig",
            "x": part(1), "y": part(33),
        }]})
    }

    /// `token` if it says what `claims` do and is fresh enough, or else a new one.
    ///
    /// # Errors
    /// [`TokenKeyError::Sign`].
    pub(crate) fn renew(
        &self,
        token: Option<&str>,
        claims: &Claims<'_>,
        now: Timestamp,
    ) -> Result<String, TokenKeyError> {
        match token.filter(|token| claims.are_in(token, &self.id, now)) {
            Some(token) => Ok(token.to_owned()),
            None => self.sign(claims, now),
        }
    }

    fn sign(&self, claims: &Claims<'_>, now: Timestamp) -> Result<String, TokenKeyError> {
        let random = SystemRandom::new();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| TokenKeyError::Sign)?;
        let header = json!({"alg": "ES256", "kid": self.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", encode(&header), encode(&claims.payload(now, &uuid(id))));
        let signature = self.pair.sign(&random, said.as_bytes()).map_err(|_| TokenKeyError::Sign)?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

/// Random bytes as a UUID of version 4. Source: RFC 9562.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// A new key is in the file `path`: whole, or not at all.
fn make(path: &Path) -> Result<Vec<u8>, TokenKeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let document = document.map_err(|_| TokenKeyError::Make)?;
    let next = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(document.as_ref())?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(|source| TokenKeyError::Io { operation: "write", path: path.to_owned(), source })?;
    Ok(document.as_ref().to_vec())
}
