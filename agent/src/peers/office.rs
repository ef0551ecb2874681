//! Lets nodes in, renews their certificates, and removes them: the decisions, and their records.

use super::authority::{AuthorityError, ClusterCa, Subject, key_of_request};
use super::guesses::Guesses;
use super::key_hash::KeyHash;
use super::papers::Papers;
use super::passport::Passport;
use super::records::{Records, RecordsError};
use super::token::{Invitation, JoinToken, Secret, TokenRefusal};
use jiff::{SignedDuration, Timestamp};
use reconciler::peer::Peer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

const TOKENS: &str = "tokens/";
const NODES: &str = "nodes/";
const REMOVED: &str = "removed/";
/// Writes that another came before are tried again.
const ATTEMPTS: usize = 16;

/// A node that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownNode {
    /// Its name.
    pub(crate) name: String,
    /// Its key.
    pub(crate) key: KeyHash,
    /// When it was let in.
    pub(crate) joined_at: Timestamp,
}

/// Why a node gets no certificate, or is not removed. The words are for who asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denial {
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// Too many were not.
    #[error("too many wrong tokens; wait a minute")]
    TooManyGuesses,
    /// Nobody can be called that.
    #[error("{name:?} is no name of a node: lower-case letters, digits, `-` and `.`")]
    BadName {
        /// That.
        name: String,
    },
    /// Another node is called that.
    #[error(
        "a node {name} is in the cluster already, with another key; choose another `nodeName`, or remove \
         it with `keel node rm {name}`"
    )]
    Taken {
        /// That.
        name: String,
    },
    /// The key was removed.
    #[error("the key of {name} was removed from the cluster; it can join with a new key only")]
    Removed {
        /// The node.
        name: String,
    },
    /// The key is of nobody who was let in.
    #[error("no node {name} with this key is known here; it has to join")]
    Unknown {
        /// The node.
        name: String,
    },
    /// The request is of another key than the certificate that was shown.
    #[error("a certificate is renewed for its own key only")]
    OtherKey,
    /// This node cannot sign.
    #[error("this node has not the cluster's authority; ask another member")]
    NoAuthority,
    /// There is no certificate in it.
    #[error("no certificate can be given")]
    Authority(#[from] AuthorityError),
    /// The records cannot be used.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Others changed the same record all the time.
    #[error("the cluster's records change too fast; try again")]
    Contended,
    /// There are no random bytes.
    #[error("no token can be made")]
    Random(#[source] getrandom::Error),
    /// A node does not remove itself.
    #[error("{name} is this node; remove it from another member")]
    Myself {
        /// The node.
        name: String,
    },
}

/// A request for a certificate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Application<'a> {
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) request: &'a [u8],
}

/// Signs for the cluster, where it has the authority to.
#[derive(Debug)]
pub(crate) struct Office {
    records: Arc<dyn Records>,
    authority: RwLock<Option<Arc<ClusterCa>>>,
    papers: Papers,
    guesses: Mutex<Guesses>,
    lifetime: Duration,
}

fn read<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, RecordsError> {
    serde_json::from_value(value).map_err(|error| RecordsError(Box::new(error)))
}

fn write<T: Serialize>(value: &T) -> Result<serde_json::Value, RecordsError> {
    serde_json::to_value(value).map_err(|error| RecordsError(Box::new(error)))
}

impl Office {
    pub(crate) fn new(records: Arc<dyn Records>, papers: Papers, lifetime: Duration) -> Self {
        let (authority, guesses) = (RwLock::default(), Mutex::default());
        Self { records, authority, papers, guesses, lifetime }
    }

    /// From here on, this node signs.
    pub(crate) fn set_authority(&self, authority: ClusterCa) {
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(authority));
    }

    /// The authority, if this node has it.
    pub(crate) fn authority(&self) -> Option<Arc<ClusterCa>> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn signer(&self) -> Result<Arc<ClusterCa>, Denial> {
        self.authority().ok_or(Denial::NoAuthority)
    }

    async fn record<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Denial> {
        Ok(self.records.get(name).await?.map(read).transpose()?)
    }

    /// A new token, and what a node shows to join with it.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub(crate) async fn create_token(
        &self,
        ttl: Option<SignedDuration>,
        uses: Option<u32>,
        now: Timestamp,
    ) -> Result<(JoinToken, Invitation), Denial> {
        let pins: Vec<KeyHash> = self.papers.identity().trust().pins().collect();
        let authority = *pins.first().ok_or(Denial::NoAuthority)?;
        for _ in 0..ATTEMPTS {
            let (token, secret) = JoinToken::create(ttl, uses, now).map_err(Denial::Random)?;
            let name = format!("{TOKENS}{}", token.id);
            if self.records.swap(&name, None, Some(write(&token)?)).await? {
                return Ok((token, Invitation { secret, authority }));
            }
        }
        Err(Denial::Contended)
    }

    /// Every token that is not forgotten yet. Those whose end is long past are, by this.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(crate) async fn tokens(&self, now: Timestamp) -> Result<Vec<JoinToken>, Denial> {
        let mut tokens = Vec::new();
        for (name, value) in self.records.list(TOKENS).await? {
            let token: JoinToken = read(value.clone())?;
            let day = SignedDuration::from_hours(24);
            let ended = token.deleted_at.into_iter().chain(token.expires_at).min();
            if ended.is_some_and(|at| at.duration_until(now) > day) {
                self.records.swap(&name, Some(value), None).await?;
            } else {
                tokens.push(token);
            }
        }
        Ok(tokens)
    }

    /// Nobody joins with token `id` any more.
    ///
    /// # Errors
    /// If there is none; if the records cannot be written.
    pub(crate) async fn delete_token(&self, id: &str, now: Timestamp) -> Result<(), Denial> {
        let unknown = || Denial::Token(TokenRefusal::Unknown { id: id.to_owned() });
        let name = format!("{TOKENS}{id}");
        for _ in 0..ATTEMPTS {
            let value = self.records.get(&name).await?.ok_or_else(unknown)?;
            let mut deleted: JoinToken = read(value.clone())?;
            deleted.deleted_at = deleted.deleted_at.or(Some(now));
            if self.records.swap(&name, Some(value), Some(write(&deleted)?)).await? {
                return Ok(());
            }
        }
        Err(Denial::Contended)
    }

    /// A certificate for a node that joins with `token`. It may ask again with the same key.
    pub(super) async fn enrol(
        &self,
        token: &str,
        application: Application<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<String, Denial> {
        if !self.guesses().may(from, now) {
            return Err(Denial::TooManyGuesses);
        }
        let admitted = self.admit(token, application, now).await;
        if let Err(Denial::Token(
            TokenRefusal::Malformed | TokenRefusal::Unknown { .. } | TokenRefusal::Wrong { .. },
        )) = &admitted
        {
            self.guesses().count(from);
        }
        admitted
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn admit(
        &self,
        token: &str,
        application: Application<'_>,
        now: Timestamp,
    ) -> Result<String, Denial> {
        let signer = self.signer()?;
        let secret: Secret = token.parse()?;
        let unknown = || TokenRefusal::Unknown { id: secret.id.clone() };
        let kept: JoinToken = self.record(&format!("{TOKENS}{}", secret.id)).await?.ok_or_else(unknown)?;
        // First of all: who does not know a secret learns nothing of nodes.
        kept.verify(&secret, true, now)?;
        let name = application.name;
        check_name(name)?;
        let key = key_of_request(application.request)?;
        if self.records.get(&format!("{REMOVED}{key}")).await?.is_some() {
            return Err(Denial::Removed { name: name.to_owned() });
        }
        let place = format!("{NODES}{name}");
        let known: Option<KnownNode> = self.record(&place).await?;
        if known.as_ref().is_some_and(|known| known.key != key) {
            return Err(Denial::Taken { name: name.to_owned() });
        }
        if known.is_none() {
            kept.verify(&secret, false, now)?;
            let node = KnownNode { name: name.to_owned(), key, joined_at: now };
            if !self.records.swap(&place, None, Some(write(&node)?)).await? {
                return Err(Denial::Contended);
            }
            if let Err(denial) = self.use_up(&secret, now).await {
                self.records.swap(&place, Some(write(&node)?), None).await?;
                return Err(denial);
            }
        }
        self.sign(&signer, application, now)
    }

    /// One node more joined with the token.
    async fn use_up(&self, secret: &Secret, now: Timestamp) -> Result<(), Denial> {
        let name = format!("{TOKENS}{}", secret.id);
        for _ in 0..ATTEMPTS {
            let unknown = || TokenRefusal::Unknown { id: secret.id.clone() };
            let value = self.records.get(&name).await?.ok_or_else(unknown)?;
            let token: JoinToken = read(value.clone())?;
            token.verify(secret, false, now)?;
            if self.records.swap(&name, Some(value), Some(write(&token.used())?)).await? {
                return Ok(());
            }
        }
        Err(Denial::Contended)
    }

    /// A new certificate for the node that showed `passport`, which may have expired.
    pub(super) async fn renew(
        &self,
        passport: &Passport,
        (address, request): (&str, &[u8]),
        now: Timestamp,
    ) -> Result<String, Denial> {
        let signer = self.signer()?;
        let name = &passport.name;
        if key_of_request(request)? != passport.key {
            return Err(Denial::OtherKey);
        }
        if self.records.get(&format!("{REMOVED}{}", passport.key)).await?.is_some() {
            return Err(Denial::Removed { name: name.clone() });
        }
        let known: Option<KnownNode> = self.record(&format!("{NODES}{name}")).await?;
        if known.is_none_or(|known| known.key != passport.key) {
            return Err(Denial::Unknown { name: name.clone() });
        }
        self.sign(&signer, Application { name, address, request }, now)
    }

    fn sign(
        &self,
        signer: &ClusterCa,
        Application { name, address, request }: Application<'_>,
        now: Timestamp,
    ) -> Result<String, Denial> {
        Ok(signer.sign(request, Subject { name, address }, self.lifetime, now)?)
    }

    /// Node `name` with `key` is known, as if it had joined.
    ///
    /// # Errors
    /// If another is called that; if the records cannot be written.
    pub(crate) async fn know(&self, name: &str, key: KeyHash, now: Timestamp) -> Result<(), Denial> {
        let place = format!("{NODES}{name}");
        let node = KnownNode { name: name.to_owned(), key, joined_at: now };
        if self.records.swap(&place, None, Some(write(&node)?)).await? {
            return Ok(());
        }
        let known: Option<KnownNode> = self.record(&place).await?;
        if known.is_some_and(|known| known.key == key) {
            return Ok(());
        }
        Err(Denial::Taken { name: name.to_owned() })
    }

    /// Node `name` can be removed.
    ///
    /// # Errors
    /// If there is none, or it is this node; if the records cannot be read.
    pub(crate) async fn may_remove(&self, name: &str) -> Result<(), Denial> {
        self.removable(name).await.map(drop)
    }

    /// The record of node `name`.
    async fn removable(&self, name: &str) -> Result<Value, Denial> {
        if self.papers.identity().passport().name == name {
            return Err(Denial::Myself { name: name.to_owned() });
        }
        let found = self.records.get(&format!("{NODES}{name}")).await?;
        found.ok_or_else(|| Denial::Unknown { name: name.to_owned() })
    }

    /// Node `name` is no member any more, and its key opens nothing.
    ///
    /// # Errors
    /// If there is none, or it is this node; if the records cannot be written.
    pub(crate) async fn remove(&self, name: &str, now: Timestamp) -> Result<(), Denial> {
        let value = self.removable(name).await?;
        let place = format!("{NODES}{name}");
        let node: KnownNode = read(value.clone())?;
        // The key first: a removal that was cut short can be said again.
        let removed = format!("{REMOVED}{}", node.key);
        let record = serde_json::json!({"name": name, "removedAt": now});
        self.records.swap(&removed, None, Some(record)).await?;
        self.records.swap(&place, Some(value), None).await?;
        self.look().await
    }

    /// The keys that were removed are refused from here on. To be called whenever the records may
    /// have changed elsewhere.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(crate) async fn look(&self) -> Result<(), Denial> {
        let removed = self.records.list(REMOVED).await?;
        let keys = removed.iter().filter_map(|(name, _)| name.strip_prefix(REMOVED)?.parse().ok());
        self.papers.set_removed(keys.collect::<BTreeSet<KeyHash>>());
        Ok(())
    }
}

/// What a Welcome tells besides the certificate.
pub(super) fn members(members: &[Peer]) -> Vec<super::wire::v1::Member> {
    let member = |peer: &Peer| super::wire::v1::Member {
        name: peer.name.clone(),
        address: peer.address.clone(),
        zone: peer.zone.clone(),
    };
    members.iter().map(member).collect()
}

fn check_name(name: &str) -> Result<(), Denial> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let right = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(fits)
        && name.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if right { Ok(()) } else { Err(Denial::BadName { name: name.chars().take(64).collect() }) }
}
