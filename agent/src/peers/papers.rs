//! What this node shows its peers, and what it judges theirs by; shared by all connections, and
//! renewed under them.

use super::identity::Identity;
use super::key_hash::KeyHash;
use super::passport::Passport;
use super::trust::{Stranger, is_good};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The node's identity, and the keys that are members' no more.
#[derive(Debug, Clone)]
pub(crate) struct Papers {
    identity: Arc<watch::Sender<Arc<Identity>>>,
    removed: Arc<RwLock<BTreeSet<KeyHash>>>,
}

impl Papers {
    /// Those of a node that is `identity`, with nobody removed.
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(watch::Sender::new(Arc::new(identity))), removed: Arc::default() }
    }

    /// Who the node is now.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.borrow())
    }

    /// From here on, new connections show `identity`. Those that there are go on.
    pub(crate) fn renew(&self, identity: Identity) {
        self.identity.send_replace(Arc::new(identity));
    }

    /// From here on, exactly the keys `removed` are members' no more.
    pub(crate) fn set_removed(&self, removed: BTreeSet<KeyHash>) {
        *self.removed.write().unwrap_or_else(PoisonError::into_inner) = removed;
    }

    /// Who shows `chain`.
    ///
    /// # Errors
    /// Why nobody of this cluster does.
    pub(super) fn examine(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Passport, Stranger> {
        let passport = self.identity.borrow().trust().examine(chain, now);
        // Removed first: what a removed node would renew is not renewed.
        if let Ok(passport) = &passport {
            self.is_member(passport)?;
        }
        if let Err(Stranger::Expired(passport)) = &passport {
            self.is_member(passport)?;
        }
        passport
    }

    /// Whoever `passport` was accepted of is accepted still.
    ///
    /// # Errors
    /// If it expired, or the node was removed, since.
    pub(super) fn still(&self, passport: &Passport, now: Timestamp) -> Result<(), Stranger> {
        self.is_member(passport)?;
        is_good(passport, now)
    }

    fn is_member(&self, passport: &Passport) -> Result<(), Stranger> {
        let removed = self.removed.read().unwrap_or_else(PoisonError::into_inner);
        if removed.contains(&passport.key) {
            return Err(Stranger::Removed { name: passport.name.clone() });
        }
        Ok(())
    }
}
