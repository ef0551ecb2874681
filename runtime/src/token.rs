//! Tokens by which a pod's programs prove who they are: JSON Web Tokens as Kubernetes' bound
//! service account tokens, signed with a key that never leaves this node.

mod claims;
mod key;

pub(crate) use claims::{Claims, Subject};
pub use key::{ISSUER, TokenKey, TokenKeyError};

use jiff::Timestamp;

/// By whom, and for which account, a pod's tokens are made.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Signs them.
    pub key: &'a TokenKey,
    /// `metadata.uid` of the pod's ServiceAccount; empty for the account `default` of a
    /// namespace that has written none.
    pub account_uid: &'a str,
    /// The time that they are made at.
    pub now: Timestamp,
}

#[cfg(test)]
mod tests;
