//! SHA-256 of what flows by.

use super::error::ImageError;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// The hexadecimal digits of a `sha256:` digest.
///
/// # Errors
/// [`ImageError::BadDigest`] for anything else: the digits name a file.
pub(super) fn hex_of(digest: &str) -> Result<&str, ImageError> {
    let hex = digest.strip_prefix("sha256:");
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hex.filter(|hex| hex.len() == 64 && hex.bytes().all(is_lower_hex))
        .ok_or_else(|| ImageError::BadDigest { digest: digest.to_owned() })
}

/// `sha256:…` of `bytes`.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A reader that knows the digest of all that was read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads to the end and checks the digest of everything.
    ///
    /// # Errors
    /// If it cannot be read, or is not `wanted`.
    pub(super) fn verify(mut self, what: &'static str, wanted: &str) -> Result<R, ImageError> {
        let drained = io::copy(&mut self, &mut io::sink());
        drained.map_err(|source| ImageError::Io { operation: "read", path: wanted.into(), source })?;
        let found = format!("sha256:{}", hex::encode(self.hash.finalize()));
        if found == wanted {
            Ok(self.inner)
        } else {
            Err(ImageError::DigestMismatch { what, wanted: wanted.to_owned(), found })
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
