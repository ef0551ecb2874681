//! One lock per pod's link, for as long as somebody wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// Locks by name. One that nobody holds or waits for takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits until nobody else holds the lock of `name`, in the order of asking.
    pub(crate) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }

    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.into(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_name_waits_and_another_does_not() {
        let locks = Locks::default();
        let held = locks.lock("a").await;
        locks.lock("b").await;
        assert!(locks.of("a").try_lock().is_err());
        drop(held);
        locks.lock("a").await;
    }

    #[tokio::test]
    async fn what_nobody_holds_is_forgotten() {
        let locks = Locks::default();
        for name in 0..10 {
            locks.lock(&name.to_string()).await;
        }
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
