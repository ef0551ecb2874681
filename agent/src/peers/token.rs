//! Join tokens: `id.secret`, and after an `@` the key of the authority that the cluster has.
//! Pure: only a hash of the secret is kept.

use super::key_hash::KeyHash;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// As kubeadm's, whose secret is shorter.
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 24;
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What is known of a token. Its secret is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinToken {
    /// Names it.
    pub(crate) id: String,
    /// Of the secret.
    secret: KeyHash,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// How many nodes can join with it still; any number without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses_left: Option<u32>,
    /// When somebody deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_at: Option<Timestamp>,
}

/// A token as it is shown, once.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: String,
    secret: String,
}

/// What a node joins with: a token, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) secret: Secret,
    pub(crate) authority: KeyHash,
}

/// Why a token does not let a node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// It does not look like one.
    #[error("this is no join token: `keel token create` prints one")]
    Malformed,
    /// No such token was made here.
    #[error("there is no join token {id}")]
    Unknown {
        /// Its name.
        id: String,
    },
    /// The part after the point is another.
    #[error("the secret of join token {id} is wrong")]
    Wrong {
        /// Its name.
        id: String,
    },
    /// Its time is over.
    #[error("join token {id} expired at {at}")]
    Expired {
        /// Its name.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// As many nodes joined as could.
    #[error("join token {id} is used up")]
    UsedUp {
        /// Its name.
        id: String,
    },
    /// Somebody deleted it.
    #[error("join token {id} was deleted")]
    Deleted {
        /// Its name.
        id: String,
    },
}

/// Letters and digits by chance.
fn word(length: usize) -> Result<String, getrandom::Error> {
    let mut word = String::with_capacity(length);
    while word.len() < length {
        let mut byte = [0];
        getrandom::fill(&mut byte)?;
        // Every letter is as likely as any other.
        if let Some(letter) = LETTERS.get(usize::from(byte[0] & 0x3f)) {
            word.push(char::from(*letter));
        }
    }
    Ok(word)
}

impl JoinToken {
    /// A new token, good for `ttl` after `now` and for so many nodes; without, for ever and for any
    /// number.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub(crate) fn create(
        ttl: Option<SignedDuration>,
        uses: Option<u32>,
        now: Timestamp,
    ) -> Result<(Self, Secret), getrandom::Error> {
        let secret = Secret { id: word(ID_LENGTH)?, secret: word(SECRET_LENGTH)? };
        let token = Self {
            id: secret.id.clone(),
            secret: KeyHash::of(secret.secret.as_bytes()),
            created_at: now,
            expires_at: ttl.map(|ttl| now.checked_add(ttl).unwrap_or(Timestamp::MAX)),
            uses_left: uses,
            deleted_at: None,
        };
        Ok((token, secret))
    }

    /// Whether its time is over.
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// `secret` is this token, which is good at `now`; for a node that it let in already
    /// (`again`) also when it is used up.
    ///
    /// # Errors
    /// Why not. Who does not know the secret learns nothing else.
    pub(crate) fn verify(&self, secret: &Secret, again: bool, now: Timestamp) -> Result<(), TokenRefusal> {
        let id = || self.id.clone();
        if !KeyHash::of(secret.secret.as_bytes()).is_same_secret(&self.secret) {
            return Err(TokenRefusal::Wrong { id: id() });
        }
        if self.deleted_at.is_some() {
            return Err(TokenRefusal::Deleted { id: id() });
        }
        if let Some(at) = self.expires_at.filter(|_| self.expired(now)) {
            return Err(TokenRefusal::Expired { id: id(), at });
        }
        if self.uses_left == Some(0) && !again {
            return Err(TokenRefusal::UsedUp { id: id() });
        }
        Ok(())
    }

    /// The token after one more node joined with it.
    pub(crate) fn used(&self) -> Self {
        Self { uses_left: self.uses_left.map(|uses| uses.saturating_sub(1)), ..self.clone() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.…", self.id)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl FromStr for Secret {
    type Err = TokenRefusal;

    fn from_str(text: &str) -> Result<Self, TokenRefusal> {
        let (id, secret) = text.split_once('.').ok_or(TokenRefusal::Malformed)?;
        let is_word = |word: &str, length| word.len() == length && word.bytes().all(|b| LETTERS.contains(&b));
        if !is_word(id, ID_LENGTH) || !is_word(secret, SECRET_LENGTH) {
            return Err(TokenRefusal::Malformed);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.secret, self.authority)
    }
}

impl FromStr for Invitation {
    type Err = TokenRefusal;

    fn from_str(text: &str) -> Result<Self, TokenRefusal> {
        let (secret, authority) = text.trim().split_once('@').ok_or(TokenRefusal::Malformed)?;
        let authority = authority.parse().map_err(|_| TokenRefusal::Malformed)?;
        Ok(Self { secret: secret.parse()?, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn a_token_is_good_by_its_truth_table() {
        let now = Timestamp::UNIX_EPOCH + HOUR;
        let (token, secret) = JoinToken::create(Some(HOUR), Some(1), now).expect("a token");
        let id = token.id.clone();
        let (_, other) = JoinToken::create(None, None, now).expect("a token");
        let wrong = Secret { id: id.clone(), ..other };
        let late = now + HOUR;
        let deleted = JoinToken { deleted_at: Some(now), ..token.clone() };
        let used = token.used();
        let cases = [
            (&token, &secret, false, now, Ok(())),
            (&token, &wrong, false, now, Err(TokenRefusal::Wrong { id: id.clone() })),
            (&token, &secret, false, late, Err(TokenRefusal::Expired { id: id.clone(), at: late })),
            (&token, &secret, true, late, Err(TokenRefusal::Expired { id: id.clone(), at: late })),
            (&used, &secret, false, now, Err(TokenRefusal::UsedUp { id: id.clone() })),
            (&used, &secret, true, now, Ok(())),
            (&deleted, &secret, true, now, Err(TokenRefusal::Deleted { id: id.clone() })),
            (&deleted, &wrong, true, late, Err(TokenRefusal::Wrong { id })),
        ];
        for (token, secret, again, at, wanted) in cases {
            assert_eq!(token.verify(secret, again, at), wanted, "{token:?} {again} {at}");
        }
        let (forever, secret) = JoinToken::create(None, None, now).expect("a token");
        assert_eq!(forever.used().verify(&secret, false, Timestamp::MAX), Ok(()));
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_kept_without_its_secret() {
        let (token, secret) = JoinToken::create(None, None, Timestamp::UNIX_EPOCH).expect("a token");
        let invitation = Invitation { secret: secret.clone(), authority: KeyHash::of(b"key") };
        assert_eq!(format!("{invitation}\n").parse(), Ok(invitation.clone()));
        let kept = serde_json::to_string(&token).expect("JSON");
        assert!(!kept.contains(&secret.secret), "{kept}");
        assert_eq!(serde_json::from_str::<JoinToken>(&kept).expect("a token"), token);
        assert!(!format!("{invitation:?}").contains(&secret.secret));
        let text = invitation.to_string();
        for wrong in
            ["", "abc", "abcdef.x", &text[..40], &text.replace("sha256:", "md5:"), &text.to_uppercase()]
        {
            assert_eq!(wrong.parse::<Invitation>(), Err(TokenRefusal::Malformed), "{wrong}");
        }
    }
}
