//! Blobs that are on their way from a registry, and how far each is: peers that want one wait for
//! it here, in place of asking the registry too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

/// Every blob on its way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<BTreeMap<String, Weak<Flight>>>);

/// One blob on its way, until the last who fetches it is done or gives up.
pub(super) type Flight = watch::Sender<u64>;

impl Flights {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blob is on its way while the answer lives; what is sent to it are the bytes on the disk.
    pub(super) fn join(&self, digest: &str) -> Arc<Flight> {
        let mut all = self.all();
        all.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = all.get(digest).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(watch::Sender::new(0));
        all.insert(digest.to_owned(), Arc::downgrade(&flight));
        flight
    }

    /// How far the blob is, if it is on its way; the watch is closed when it is there, or given up.
    pub(super) fn watch(&self, digest: &str) -> Option<watch::Receiver<u64>> {
        Some(self.all().get(digest)?.upgrade()?.subscribe())
    }
}
