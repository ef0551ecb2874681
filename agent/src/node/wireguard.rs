//! The node's key for WireGuard: made here, kept in its state, and never sent anywhere. What others may
//! know of it is in an annotation of the Node object.

use aws_lc_rs::agreement::{PrivateKey, X25519};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::config::{AgentConfiguration, NetworkBackend};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The annotation of a Node that has its public key, as `wg` writes it.
pub(crate) const ANNOTATION: &str = "evenkeel.dev/wireguard-public-key";

/// The private key, made if there is none; nothing if the configuration does not ask for one.
///
/// # Errors
/// If it can be neither read nor written.
pub(crate) fn private_key(configuration: &AgentConfiguration) -> io::Result<Option<[u8; 32]>> {
    if configuration.cluster.is_none() || configuration.network.backend() != NetworkBackend::Wireguard {
        return Ok(None);
    }
    read_or_make(&configuration.state_dir.join("wireguard.key")).map(Some)
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("a key has 32 bytes")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut key = [0; 32];
            aws_lc_rs::rand::fill(&mut key).map_err(io::Error::other)?;
            let new = path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(new, path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// What others may know of the key, as `wg` writes it.
pub(crate) fn public_key(private: &[u8; 32]) -> Option<String> {
    let private = PrivateKey::from_private_key(&X25519, private).ok()?;
    Some(STANDARD.encode(private.compute_public_key().ok()?.as_ref()))
}

/// The key that is written so.
pub(crate) fn parse(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_only_root_may_read_it() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("wireguard.key");
        let key = read_or_make(&path).expect("a key");
        assert_eq!(read_or_make(&path).expect("the same"), key);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").expect("written");
        assert_eq!(read_or_make(&path).expect_err("no key").to_string(), "a key has 32 bytes");
    }

    /// Source: RFC 7748, section 6.1.
    #[test]
    fn a_public_key_comes_of_the_private_one() {
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let public = public_key(&parse(private).expect("a key"));
        assert_eq!(public.as_deref(), Some("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="));
        assert_eq!(parse("abc"), None);
    }
}
