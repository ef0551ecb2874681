//! Whose pods changed: wakes a node for its own ones only, however many nodes share the store.

use super::{Pods, pod_of};
use anyhow::Context as _;
use manifests::Kind;
use reconciler::store::{Store, Watch};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The nodes that are told, by their names.
#[derive(Debug, Default)]
pub(crate) struct Bindings(HashMap<String, watch::Sender<u64>>);

/// What one node hears.
#[derive(Debug)]
pub(crate) struct Binding {
    node: String,
    changes: watch::Receiver<u64>,
}

impl Bindings {
    /// `node` hears of its pods from here on.
    pub(crate) fn of(&mut self, node: &str) -> Binding {
        let changes = self.0.entry(node.to_owned()).or_default().subscribe();
        Binding { node: node.to_owned(), changes }
    }

    /// Tells until `stop`, or until the store is closed.
    pub(crate) async fn run(self, store: Arc<Store>, stop: CancellationToken) {
        let mut stored = store.changes();
        let mut watch = self.anew(&store);
        loop {
            stored.borrow_and_update();
            self.follow(&store, &mut watch);
            let changed = stop.run_until_cancelled(stored.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                return;
            }
        }
    }

    /// Everybody looks, and hears of what comes after.
    fn anew(&self, store: &Store) -> Watch {
        let ((), watch) = store.read_and_watch(Some(Kind::Pod), |_| ());
        self.0.values().for_each(|node| node.send_modify(|version| *version += 1));
        watch
    }

    fn follow(&self, store: &Store, watch: &mut Watch) {
        loop {
            match watch.try_next() {
                Ok(None) => return,
                Ok(Some(event)) => {
                    let pod = pod_of(&event.object);
                    let bound = pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_deref());
                    if let Some(node) = bound.and_then(|name| self.0.get(name)) {
                        node.send_modify(|version| *version += 1);
                    }
                }
                Err(_expired) => *watch = self.anew(store),
            }
        }
    }
}

impl Binding {
    /// The pods bound to the node, by uid.
    pub(super) fn pods(&self, store: &Store) -> Pods {
        store.read(|state| {
            state.bound_to(&self.node).map(|object| (object.uid().to_owned(), Arc::clone(object))).collect()
        })
    }

    /// What was told up to now needs no telling.
    pub(super) fn seen(&mut self) {
        self.changes.borrow_and_update();
    }

    /// Waits until one of the node's pods has changed.
    ///
    /// # Errors
    /// If nobody tells any more.
    ///
    /// # Cancel safety
    /// A cancelled call has taken nothing.
    pub(super) async fn changed(&mut self) -> anyhow::Result<()> {
        self.changes.changed().await.context("the store is closed")
    }
}
