//! A look at the Git sources now, by whichever member looks at each.

use crate::chain::chain;
use crate::peers::Peers;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use reconciler::peer::{Answerer, Topic};
use reconciler::store::{Cluster, Store};
use reconciler::sync::duty::Holders;
use reconciler::sync::{SyncHandle, SyncReport};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A look may have to fetch much.
const PATIENCE: Duration = Duration::from_secs(120);

/// The sources of the cluster, as one of its members reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// This node's name.
    pub(crate) me: String,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) sync: SyncHandle,
    pub(crate) holders: watch::Receiver<Holders>,
}

impl Sources {
    /// The sources that this node is configured with, or knows to be looked at by another.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.sync.reached().into_keys().chain(self.holders.borrow().keys().cloned()).collect()
    }

    /// Looks at `source`, or at all, wherever that is done, and waits: each report is of a look
    /// that began after this call.
    pub(crate) async fn sync(&self, source: Option<&str>) -> Vec<SyncReport> {
        let Some(peers) = &self.peers else { return self.sync.sync(source).await };
        let names = self.names();
        let chosen = names.iter().filter(|name| source.is_none_or(|source| source == name.as_str()));
        let looks = chosen.map(|name| async move {
            let holder = self.holders.borrow().get(name).filter(|holder| **holder != self.me).cloned();
            match holder {
                Some(holder) => self.ask(peers, &holder, name).await,
                None => self.sync.sync(Some(name)).await,
            }
        });
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// The report of `holder`, which looks at `source`.
    async fn ask(&self, peers: &Peers, holder: &str, source: &str) -> Vec<SyncReport> {
        let members = self.store.cluster().members();
        let told = match members.into_iter().find(|member| member.peer.name == holder) {
            Some(member) => {
                let body = Bytes::copy_from_slice(source.as_bytes());
                let answer = peers.transport().call(member.peer, Topic::Sync, body, PATIENCE).await;
                answer.map_err(|error| chain(&error)).and_then(|answer| {
                    serde_json::from_slice(&answer).map_err(|error| format!("{holder} said: {error}"))
                })
            }
            None => Err(format!("{holder} is no member any more")),
        };
        told.unwrap_or_else(|message| {
            let (source, result) = (source.to_owned(), "Elsewhere".to_owned());
            vec![SyncReport { source, result, message, ..SyncReport::default() }]
        })
    }
}

/// What members ask of this one: of its store, or of its sources.
pub(crate) struct Answers {
    pub(crate) cluster: Cluster,
    pub(crate) peers: Arc<Peers>,
    pub(crate) sync: SyncHandle,
}

impl Answers {
    /// The members are others after, and this node knows them at its next start, too, however soon
    /// that is: one that knew of nobody else would begin a cluster of its own.
    fn change(&self, name: String, body: Bytes) -> impl Future<Output = Result<Bytes, String>> + use<> {
        let (cluster, peers) = (self.cluster.clone(), Arc::clone(&self.peers));
        async move {
            let answer = cluster.answer(name, Topic::Member, body).await?;
            let members = cluster.members().into_iter().map(|member| member.peer);
            if let Err(error) = peers.set_members(members.collect()) {
                tracing::warn!(error = chain(&*error), "cannot keep who the members are");
            }
            Ok(answer)
        }
    }
}

impl Answerer for Answers {
    fn answer(&self, name: String, topic: Topic, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        if topic == Topic::Member {
            return self.change(name, body).boxed();
        }
        if topic != Topic::Sync {
            return self.cluster.answer(name, topic, body);
        }
        let sync = self.sync.clone();
        async move {
            let source = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
            // Never passed on again: if another looks by now, that is said.
            let reports = sync.sync(Some(source)).await;
            serde_json::to_vec(&reports).map(Into::into).map_err(|error| error.to_string())
        }
        .boxed()
    }
}
