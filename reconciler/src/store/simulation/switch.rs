//! A network between members, with faults.

use super::super::Cluster;
use super::chance::Chance;
use super::pause::Hold;
use crate::peer::{Answerer as _, CallError, Peer, Topic, Transport};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Carries messages between members that are plugged in. Clones are the same.
#[derive(Debug, Clone)]
pub(in super::super) struct Switch(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    plugged: BTreeMap<String, (Cluster, Hold)>,
    /// From whom to whom nothing gets.
    cut: BTreeSet<(String, String)>,
    /// The longest that a message takes, in microseconds.
    latency_us: u64,
    /// Of a thousand messages, so many are lost.
    lost: u64,
    chance: Chance,
}

/// A member's end of the switch.
#[derive(Debug)]
pub(in super::super) struct Port {
    switch: Switch,
    name: String,
}

/// What becomes of one message.
struct Passage {
    delay: Duration,
    is_lost: bool,
}

impl Switch {
    pub(in super::super) fn new(seed: u64) -> Self {
        let chance = Chance::new(seed ^ 0x5117c4);
        let (plugged, cut) = (BTreeMap::new(), BTreeSet::new());
        Self(Arc::new(Mutex::new(Inner { plugged, cut, latency_us: 200, lost: 0, chance })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(in super::super) fn port(&self, name: &str) -> Port {
        Port { switch: self.clone(), name: name.to_owned() }
    }

    pub(in super::super) fn plug(&self, name: &str, cluster: Cluster, hold: Hold) {
        self.inner().plugged.insert(name.to_owned(), (cluster, hold));
    }

    pub(in super::super) fn unplug(&self, name: &str) {
        self.inner().plugged.remove(name);
    }

    /// Nothing gets from `from` to `to` any more; the other way is as it was.
    pub(in super::super) fn cut(&self, from: &str, to: &str) {
        self.inner().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// Every way is open again, and quick.
    pub(in super::super) fn heal(&self) {
        let mut inner = self.inner();
        inner.cut.clear();
        (inner.latency_us, inner.lost) = (200, 0);
    }

    /// Messages take up to `latency`, and `lost` of a thousand do not arrive.
    pub(in super::super) fn trouble(&self, latency: Duration, lost: u64) {
        let mut inner = self.inner();
        inner.latency_us = u64::try_from(latency.as_micros()).unwrap();
        inner.lost = lost;
    }

    fn passage(&self, from: &str, to: &str) -> Passage {
        let mut inner = self.inner();
        let delay = Duration::from_micros(inner.chance.next() % inner.latency_us.max(1));
        let drawn = inner.chance.next() % 1000;
        let is_lost = drawn < inner.lost || inner.cut.contains(&(from.to_owned(), to.to_owned()));
        Passage { delay, is_lost }
    }

    fn plugged(&self, name: &str) -> Option<(Cluster, Hold)> {
        self.inner().plugged.get(name).cloned()
    }
}

async fn travel(passage: Passage) {
    if passage.is_lost {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(passage.delay).await;
}

impl Transport for Port {
    fn call(
        &self,
        peer: Peer,
        topic: Topic,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (switch, me, to) = (self.switch.clone(), self.name.clone(), peer.name.clone());
        let exchange = async move {
            travel(switch.passage(&me, &to)).await;
            let unreachable =
                || CallError::Unreachable { peer: to.clone(), source: "nobody is there".into() };
            let answering = {
                // Let go at once: who asks may stand still for longer than the other lives.
                let (cluster, hold) = switch.plugged(&to).ok_or_else(unreachable)?;
                // As in life, what arrived is done even if nobody waits for the answer any more.
                tokio::spawn(hold.over(cluster.answer(me.clone(), topic, body)))
            };
            let answer = answering.await.unwrap_or_else(|_| Err("ended".into()));
            let back = switch.passage(&to, &me);
            if switch.plugged(&to).is_none() {
                return Err(CallError::Unanswered { peer: to, source: "the connection broke".into() });
            }
            travel(back).await;
            answer.map_err(|reason| CallError::Refused { peer: to, reason })
        };
        let name = peer.name;
        Box::pin(async move {
            let late = |_| CallError::Unanswered { peer: name, source: "no answer in time".into() };
            tokio::time::timeout(within, exchange).await.map_err(late)?
        })
    }
}
