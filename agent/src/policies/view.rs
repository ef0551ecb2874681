//! Policies, pods and namespaces, as the store has them. Pure.

use super::gate::Admission;
use super::objects;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use manifests::{Kind, Object};
use netstack::policies::{News, Policy, PolicyName, PolicyPod};
use reconciler::store::{Change, Expired, State, Watch};
use runtime::state::PodState;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a pod was let in with.
#[derive(Debug, Clone, Default)]
struct Admitted {
    addresses: Vec<IpAddr>,
    /// The later has the address.
    order: u64,
}

/// What matters to policies.
#[derive(Debug, Default)]
pub(super) struct View {
    me: String,
    /// By uid: pods whose addresses are known before their status says them.
    admitted: BTreeMap<String, Admitted>,
    count: u64,
    /// What was read at first.
    first: Vec<Arc<Object>>,
}

impl View {
    /// `state` as the node `me` sees it, whose pods `held` are there already.
    pub(super) fn of(state: &State, me: &str, held: &BTreeMap<String, Arc<PodState>>) -> Self {
        let kinds = [Kind::Namespace, Kind::NetworkPolicy, Kind::Pod];
        let first = kinds.into_iter().flat_map(|kind| state.list(kind, None).cloned()).collect();
        let mut view = Self { me: me.to_owned(), first, ..Self::default() };
        let held = held.iter().filter(|(_, pod)| !pod.addresses.is_empty());
        view.admitted = held
            .map(|(uid, pod)| {
                let addresses = pod.addresses.iter().filter_map(|text| text.parse().ok()).collect();
                (uid.clone(), Admitted { addresses, order: 0 })
            })
            .collect();
        view
    }

    /// Who was let in.
    pub(super) fn into_admitted(self) -> (BTreeMap<String, Vec<IpAddr>>, u64) {
        let admitted = self.admitted.into_iter().map(|(uid, admitted)| (uid, admitted.addresses)).collect();
        (admitted, self.count)
    }

    /// Who was let in before this was read anew.
    pub(super) fn remember(&mut self, (admitted, count): (BTreeMap<String, Vec<IpAddr>>, u64)) {
        self.count = count;
        for (uid, addresses) in admitted {
            let is_there = self.first.iter().any(|object| object.uid() == uid);
            if is_there {
                self.admitted.insert(uid, Admitted { addresses, order: count });
            }
        }
    }

    /// All of it.
    pub(super) fn all(&mut self) -> Vec<News> {
        let first = std::mem::take(&mut self.first);
        first.iter().filter_map(|object| self.tell(object, true)).collect()
    }

    /// What has changed.
    ///
    /// # Errors
    /// If it fell too far behind: read anew.
    pub(super) fn follow(&mut self, watch: &mut Watch) -> Result<Vec<News>, Expired> {
        let mut news = Vec::new();
        while let Some(event) = watch.try_next()? {
            news.extend(self.tell(&event.object, event.change != Change::Deleted));
        }
        Ok(news)
    }

    fn tell(&mut self, object: &Object, is_there: bool) -> Option<News> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind matters to policies")]
        match object.kind() {
            Kind::Namespace => Some(told_of_namespace(object, is_there)),
            Kind::NetworkPolicy => {
                let (name, policy) = told_of_policy(object)?;
                Some(News::Policy(name, policy.filter(|_| is_there)))
            }
            Kind::Pod => {
                let told = self.pod(object).filter(|_| is_there);
                if told.is_none() {
                    self.admitted.remove(object.uid());
                }
                Some(News::Pod(object.uid().into(), told))
            }
            _ => None,
        }
    }

    fn pod(&self, object: &Object) -> Option<PolicyPod> {
        let pod: &Pod = object.try_into().ok()?;
        let admitted = self.admitted.get(object.uid());
        let addresses = admitted.map(|admitted| admitted.addresses.as_slice()).unwrap_or_default();
        let order = admitted.map_or(0, |admitted| admitted.order);
        Some(PolicyPod { order, ..objects::pod(pod, &self.me, addresses)? })
    }

    /// The pod that waits, with its addresses; nothing if policies are not about such pods.
    pub(super) fn admit(&mut self, admission: &Admission) -> Option<(String, PolicyPod)> {
        self.count += 1;
        let uid = admission.pod.uid().to_owned();
        let admitted = Admitted { addresses: admission.addresses.clone(), order: self.count };
        self.admitted.insert(uid.clone(), admitted);
        let pod = self.pod(&admission.pod)?;
        Some((uid, PolicyPod { here: true, ..pod }))
    }
}

/// A namespace that is there, or is gone.
pub(crate) fn told_of_namespace(object: &Object, is_there: bool) -> News {
    let labels = is_there.then(|| object.metadata().labels.clone().unwrap_or_default());
    News::Namespace(object.name().into(), labels)
}

/// What a policy says.
pub(crate) fn told_of_policy(object: &Object) -> Option<(PolicyName, Option<Policy>)> {
    let policy: &NetworkPolicy = object.try_into().ok()?;
    let name = PolicyName { namespace: object.namespace().into(), name: object.name().into() };
    Some((name, objects::policy(policy)))
}

/// A pod by its uid, as its status has its addresses; nothing if policies are not about such pods.
pub(crate) fn told_of_pod(object: &Object, me: &str) -> Option<(String, PolicyPod)> {
    let pod: &Pod = object.try_into().ok()?;
    Some((object.uid().into(), objects::pod(pod, me, &[])?))
}
