//! What the node loop does its work with.

use super::Node;
use super::reconcile::Action;
use super::work::{self, Done};
use manifests::Object;
use runtime::state::PodState;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::watch;

/// A machine, or what stands for one.
pub(crate) trait Hands: Debug + Send + Sync + 'static {
    /// The pods that are there, by uid.
    fn observe(&self) -> BTreeMap<String, Arc<PodState>>;

    /// Changes whenever [`Self::observe`] would.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Does `action`. Safe to repeat.
    fn perform(
        self: Arc<Self>,
        uid: String,
        pod: Option<Arc<Object>>,
        action: Action,
    ) -> impl Future<Output = Done> + Send + 'static;
}

impl Hands for Node {
    /// Those that are the store's business: what clients of the CRI asked for is not.
    fn observe(&self) -> BTreeMap<String, Arc<PodState>> {
        let mut observed = self.runtime.observe();
        observed.retain(|_, state| !state.by_request);
        observed
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.runtime.changes()
    }

    async fn perform(self: Arc<Self>, uid: String, pod: Option<Arc<Object>>, action: Action) -> Done {
        work::perform(&self, uid, pod, action).await
    }
}
