//! Credentials, read from their files at each fetch, so that they can be rotated.

use super::GitError;
use super::location::HttpLocation;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::config::GitAuth;
use reqwest::header::HeaderValue;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// No credential is longer; a larger file is a mistake, not a token.
const MAX_CREDENTIAL_BYTES: u64 = 64 << 10;
/// A bundle of authorities may be the host's whole one.
const MAX_AUTHORITY_BYTES: u64 = 4 << 20;

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// The `Authorization` header for an http(s) source: a bearer token if there is a
/// token file, else user and password from the file or from the address.
///
/// # Errors
/// [`GitError::CredentialFile`] if a configured file is missing, empty or unusable.
pub(super) fn authorization(
    auth: &GitAuth,
    location: &HttpLocation,
) -> Result<Option<HeaderValue>, GitError> {
    let (text, path) = if let Some(path) = &auth.token_file {
        let Secret(token) = read_secret(path)?;
        (format!("Bearer {token}"), path.clone())
    } else if let Some(path) = &auth.password_file {
        let user = auth.username.as_deref().or(location.user()).unwrap_or("git");
        (basic(user, &read_secret(path)?), path.clone())
    } else if let Some(password) = location.password() {
        (basic(location.user().unwrap_or("git"), password), PathBuf::new())
    } else {
        return Ok(None);
    };
    let mut header = HeaderValue::from_str(&text).map_err(|_| {
        unusable(path, io::Error::new(io::ErrorKind::InvalidData, "not a single line of text"))
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn basic(user: &str, Secret(password): &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn read_secret(path: &Path) -> Result<Secret, GitError> {
    let bytes = read(path, MAX_CREDENTIAL_BYTES)?;
    let invalid = |what| unusable(path.to_owned(), io::Error::new(io::ErrorKind::InvalidData, what));
    let text = String::from_utf8(bytes).map_err(|_| invalid("not UTF-8 text"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(invalid("the file is empty"));
    }
    Ok(Secret(text.to_owned()))
}

/// The PEM bundle with the authorities to trust.
///
/// # Errors
/// [`GitError::CredentialFile`] if it cannot be read.
pub(super) fn read_authorities(path: &Path) -> Result<Vec<u8>, GitError> {
    read(path, MAX_AUTHORITY_BYTES)
}

/// The file can be opened, for a program that will read it itself.
///
/// # Errors
/// [`GitError::CredentialFile`] if it cannot be opened.
pub(super) fn check_readable(path: &Path) -> Result<(), GitError> {
    File::open(path).map(drop).map_err(|source| unusable(path.to_owned(), source))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, GitError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for what it should hold"));
        }
        Ok(bytes)
    };
    read().map_err(|source| unusable(path.to_owned(), source))
}

pub(super) fn unusable(path: PathBuf, source: io::Error) -> GitError {
    GitError::CredentialFile { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "[secret]");
    }

    #[test]
    fn one_trailing_newline_is_no_part_of_a_secret_and_an_empty_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc \n").unwrap();
        assert_eq!(read_secret(&path).unwrap(), Secret::new("abc ".into()));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_secret(&path), Err(GitError::CredentialFile { .. })));
    }
}
