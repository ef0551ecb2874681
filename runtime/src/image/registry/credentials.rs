//! Who we are to a registry: Docker's config.json, as files and as Secrets hold it.
//!
//! Source: <https://kubernetes.io/docs/concepts/containers/images/#config-json>.

use super::super::digest::digest_of;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// Docker's own name for its registry.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Credentials by the place that they are for: `registry.example.com[:port][/path]`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Login>);

#[derive(Clone, PartialEq, Eq)]
enum Login {
    Password { user: String, password: String },
    Token(String),
}

/// Names the places, and no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A file or Secret that holds no credentials.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CredentialsError {
    #[error("this is no Docker config.json")]
    Json(#[source] serde_json::Error),
    #[error("`auth` of {place} is not the base64 of USER:PASSWORD")]
    Auth { place: String },
}

#[derive(Deserialize)]
struct ConfigJson {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Credentials {
    /// Reads `~/.docker/config.json`, or `.dockerconfigjson` of a Secret.
    ///
    /// # Errors
    /// [`CredentialsError`] if it is none.
    pub fn from_config_json(text: &[u8]) -> Result<Self, CredentialsError> {
        let config: ConfigJson = serde_json::from_slice(text).map_err(CredentialsError::Json)?;
        Self::from_entries(config.auths)
    }

    /// Reads `~/.dockercfg`, or `.dockercfg` of a Secret: the entries alone.
    ///
    /// # Errors
    /// [`CredentialsError`] if it is none.
    pub fn from_dockercfg(text: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_entries(serde_json::from_slice(text).map_err(CredentialsError::Json)?)
    }

    fn from_entries(entries: BTreeMap<String, Entry>) -> Result<Self, CredentialsError> {
        let mut all = BTreeMap::new();
        for (place, entry) in entries {
            if let Some(login) = login(&place, entry)? {
                all.insert(normal(&place), login);
            }
        }
        Ok(Self(all))
    }

    /// What a client gave with its request: `USER` and `PASSWORD` for `host`.
    #[must_use]
    pub fn password(host: &str, user: &str, password: &str) -> Self {
        let login = Login::Password { user: user.to_owned(), password: password.to_owned() };
        Self(BTreeMap::from([(normal(host), login)]))
    }

    /// Takes the other's too; where both know a place, ours stays.
    pub fn merge(&mut self, other: Self) {
        for (place, login) in other.0 {
            self.0.entry(place).or_insert(login);
        }
    }

    /// For `repository` at `host`: the entry with the longest path wins.
    pub(super) fn find(&self, host: &str, repository: &str) -> Option<RegistryAuth> {
        let host = normal(host);
        let full = format!("{host}/{repository}");
        let fits = |place: &str| {
            full == place || full.strip_prefix(place).is_some_and(|rest| rest.starts_with('/')) || {
                // `*.example.com` means one part of the host's name.
                let (pattern, path) = place.split_once('/').unwrap_or((place, ""));
                let wild = pattern.strip_prefix("*.").zip(host.split_once('.'));
                wild.is_some_and(|(pattern, (_, rest))| pattern == rest)
                    && (path.is_empty() || repository.starts_with(path))
            }
        };
        let best = self.0.iter().filter(|(place, _)| fits(place)).max_by_key(|(place, _)| place.len());
        best.map(|(_, login)| match login {
            Login::Password { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
            Login::Token(token) => RegistryAuth::Bearer(token.clone()),
        })
    }
}

/// What tells these credentials for `host` from others, and not what they are; empty for nobody's.
pub(super) fn fingerprint(host: &str, auth: Option<&RegistryAuth>) -> String {
    let parts = match auth {
        None | Some(RegistryAuth::Anonymous) => return String::new(),
        Some(RegistryAuth::Basic(user, password)) => [host, "basic", user, password],
        Some(RegistryAuth::Bearer(token)) => [host, "bearer", "", token],
    };
    // Each part with its length: no two lists of parts are one text.
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    digest_of(text.as_bytes())
}

fn login(place: &str, entry: Entry) -> Result<Option<Login>, CredentialsError> {
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Login::Token(entry.registrytoken)));
    }
    if !entry.identitytoken.is_empty() {
        // What Docker's token servers take in place of a password.
        let user = if entry.username.is_empty() { "<token>".to_owned() } else { entry.username };
        return Ok(Some(Login::Password { user, password: entry.identitytoken }));
    }
    if !entry.username.is_empty() {
        return Ok(Some(Login::Password { user: entry.username, password: entry.password }));
    }
    if entry.auth.is_empty() {
        return Ok(None);
    }
    let bad = || CredentialsError::Auth { place: place.to_owned() };
    let text = entry.auth.trim();
    let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| bad())?;
    let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
    let (user, password) = decoded.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
    Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned() }))
}

/// `https://index.docker.io/v1/` and the like as a place.
fn normal(place: &str) -> String {
    let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = if DOCKER_HUB.contains(&host) { "docker.io" } else { host };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn basic(user: &str, password: &str) -> Option<RegistryAuth> {
        Some(RegistryAuth::Basic(user.into(), password.into()))
    }

    #[test]
    fn the_longest_place_wins() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:secret")},
            "r.example.com": {"username": "all", "password": "1"},
            "r.example.com/team": {"username": "team", "password": "2"},
            "*.wild.org": {"username": "wild", "password": "3"},
            "t.example.com": {"registrytoken": "abc"},
            "empty.example.com": {},
        }});
        let all = Credentials::from_config_json(config.to_string().as_bytes()).unwrap();
        assert_eq!(all.find("docker.io", "library/nginx"), basic("me", "secret"));
        assert_eq!(all.find("r.example.com", "other/app"), basic("all", "1"));
        assert_eq!(all.find("r.example.com", "team/app"), basic("team", "2"));
        assert_eq!(all.find("r.example.com", "teams/app"), basic("all", "1"));
        assert_eq!(all.find("a.wild.org", "x"), basic("wild", "3"));
        assert_eq!(all.find("a.b.wild.org", "x"), None);
        assert_eq!(all.find("t.example.com", "x"), Some(RegistryAuth::Bearer("abc".into())));
        assert_eq!(all.find("empty.example.com", "x"), None);
        assert_eq!(all.find("r.example.com:5000", "x"), None);
        assert!(!format!("{all:?}").contains("secret"));
    }

    #[test]
    fn fingerprints_tell_credentials_apart_and_do_not_tell_them() {
        let all = [basic("a", "bc"), basic("ab", "c"), Some(RegistryAuth::Bearer("abc".into()))];
        let prints: std::collections::BTreeSet<_> = ["r", "s"]
            .iter()
            .flat_map(|host| all.iter().map(|auth| fingerprint(host, auth.as_ref())))
            .collect();
        assert_eq!(prints.len(), 6);
        assert!(prints.iter().all(|print| print.len() == 71 && print.starts_with("sha256:")));
        assert_eq!(fingerprint("r", all[0].as_ref()), fingerprint("r", basic("a", "bc").as_ref()));
        assert_eq!(
            (fingerprint("r", None), fingerprint("r", Some(&RegistryAuth::Anonymous))),
            Default::default()
        );
    }

    #[test]
    fn what_is_none_is_an_error_that_shows_no_secret() {
        let bad = Credentials::from_config_json(br#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#).unwrap_err();
        assert_eq!(bad.to_string(), "`auth` of a is not the base64 of USER:PASSWORD");
        assert!(Credentials::from_config_json(b"{}").is_err());
        assert!(Credentials::from_dockercfg(br#"{"a": {"username": "u", "password": "p"}}"#).is_ok());
    }
}
