//! What has names, as the store has it.

use super::names::names;
use crate::catalog::Catalog;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use manifests::{Kind, Object, ObjectKey};
use netstack::{DnsNames, PodNames, ServiceName, ServiceNames};
use reconciler::store::{Change, Expired, State, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that has names.
#[derive(Debug)]
pub(super) struct View {
    me: String,
    folder: PathBuf,
    catalog: Catalog,
    /// Which pod has which addresses.
    addresses: BTreeMap<ObjectKey, Known>,
    pods: BTreeMap<IpAddr, BTreeMap<ObjectKey, PodNames>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    uid: String,
    addresses: Vec<IpAddr>,
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceName>,
    /// At which other pods are than before.
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl View {
    /// `state` as the node `me` sees it, which keeps its pods in `folder`.
    pub(super) fn of(state: &State, me: &str, folder: &Path) -> Self {
        let mut view = Self {
            me: me.to_owned(),
            folder: folder.to_owned(),
            catalog: Catalog::default(),
            addresses: BTreeMap::new(),
            pods: BTreeMap::new(),
        };
        for kind in [Kind::Service, Kind::EndpointSlice] {
            for object in state.list(kind, None) {
                view.catalog.put(object, true);
            }
        }
        for object in state.list(Kind::Pod, None) {
            view.put_pod(object, true);
        }
        view
    }

    /// Takes in what has changed.
    ///
    /// # Errors
    /// If it fell too far behind: read anew.
    pub(super) fn follow(&mut self, watch: &mut Watch) -> Result<Touched, Expired> {
        let mut touched = Touched::default();
        while let Some(event) = watch.try_next()? {
            let is_there = event.change != Change::Deleted;
            touched.services.extend(self.catalog.put(&event.object, is_there));
            if event.object.kind() == Kind::Pod {
                touched.addresses.extend(self.put_pod(&event.object, is_there));
            }
        }
        Ok(touched)
    }

    /// The addresses at which there are other pods than before.
    fn put_pod(&mut self, object: &Arc<Object>, is_there: bool) -> Vec<IpAddr> {
        let key = object.key();
        let pod = <&Pod>::try_from(&**object).ok().filter(|_| is_there);
        let addresses = pod.map(addresses).unwrap_or_default();
        let known = Known { uid: object.uid().to_owned(), addresses };
        if self.addresses.get(&key).map_or(known.addresses.is_empty(), |before| *before == known) {
            return Vec::new();
        }
        let mut touched = known.addresses.clone();
        if let Some(before) = self.addresses.remove(&key) {
            for address in &before.addresses {
                if let Some(pods) = self.pods.get_mut(address) {
                    pods.remove(&key);
                    if pods.is_empty() {
                        self.pods.remove(address);
                    }
                }
            }
            touched.extend(before.addresses);
        }
        let Some(pod) = pod.filter(|_| !known.addresses.is_empty()) else { return touched };
        let searches = self.searches(pod, &known.uid);
        for address in &known.addresses {
            let names = PodNames { namespace: object.namespace().to_owned(), searches: searches.clone() };
            self.pods.entry(*address).or_default().insert(key.clone(), names);
        }
        self.addresses.insert(key, known);
        touched
    }

    /// Where a pod of this node looks for short names: what it was given is in its folder.
    fn searches(&self, pod: &Pod, uid: &str) -> Vec<String> {
        let spec = pod.spec.as_ref();
        let is_here = spec.and_then(|spec| spec.node_name.as_deref()) == Some(self.me.as_str());
        if !is_here || has_host_network(spec) {
            return Vec::new();
        }
        let text = std::fs::read_to_string(self.folder.join(uid).join("resolv.conf")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("search "));
        line.into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect()
    }

    /// Everything that has names.
    pub(super) fn names(&self) -> DnsNames {
        let service = |name: &ServiceName| Some((name.clone(), self.service(name)?));
        let pods = self.pods.keys().map(|address| (*address, self.at(address)));
        DnsNames { services: self.catalog.names().filter_map(service).collect(), pods: pods.collect() }
    }

    /// Those services; nothing of those that are gone.
    pub(super) fn some_services(
        &self,
        names: BTreeSet<ServiceName>,
    ) -> Vec<(ServiceName, Option<ServiceNames>)> {
        names.into_iter().map(|name| (name.clone(), self.service(&name))).collect()
    }

    fn service(&self, name: &ServiceName) -> Option<ServiceNames> {
        let (service, slices) = self.catalog.get(name)?;
        names(service, &slices)
    }

    /// The pods at those addresses.
    pub(super) fn some_pods(&self, addresses: BTreeSet<IpAddr>) -> Vec<(IpAddr, Vec<PodNames>)> {
        addresses.into_iter().map(|address| (address, self.at(&address))).collect()
    }

    fn at(&self, address: &IpAddr) -> Vec<PodNames> {
        self.pods.get(address).into_iter().flat_map(|pods| pods.values().cloned()).collect()
    }
}

fn has_host_network(spec: Option<&PodSpec>) -> bool {
    spec.and_then(|spec| spec.host_network) == Some(true)
}

/// The addresses of a pod that has not ended.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let listed = status.pod_ips.iter().flatten().map(|one| &one.ip);
    let all: BTreeSet<IpAddr> = listed.chain(&status.pod_ip).filter_map(|text| text.parse().ok()).collect();
    all.into_iter().collect()
}
