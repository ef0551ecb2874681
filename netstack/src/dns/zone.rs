//! The names of the cluster, as Kubernetes' specification of DNS-based service discovery has them.
//! Pure. Source: kubernetes/dns, `docs/specification.md`, version 1.1.0.

mod records;

use super::code::{A, AAAA, CNAME, NS, PTR, SOA, TXT};
use super::model::{Names, PodNames, ServiceNames};
use super::name::{self, Name};
use crate::services::ServiceName;
use records::{Made, records};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

/// How long answers may be kept, seconds. Source: CoreDNS' `kubernetes`.
pub(super) const TTL: u32 = 5;
/// What `dns-version` says.
const VERSION: &str = "1.1.0";

/// A record of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datum {
    pub(super) kind: u16,
    /// Its bytes, without pointers.
    pub(super) data: Box<[u8]>,
}

impl Datum {
    pub(super) fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { kind: A, data: address.octets().into() },
            IpAddr::V6(address) => Self { kind: AAAA, data: address.octets().into() },
        }
    }

    pub(super) fn name(kind: u16, name: Name) -> Self {
        Self { kind, data: name.into_wire() }
    }
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'z> {
    /// It exists; there may be no records of it.
    Records(Cow<'z, [Datum]>),
    /// It does not exist.
    NoName,
}

/// A name in the tree: it exists while it has records, or names below it do.
#[derive(Debug, Default)]
struct Node {
    records: Vec<Datum>,
    below: usize,
}

#[derive(Debug)]
struct Pod {
    namespace: String,
    searches: Box<[Name]>,
}

/// All names of the cluster.
#[derive(Debug)]
pub(super) struct Zone {
    origin: Name,
    /// By their labels in front of the origin.
    nodes: HashMap<Box<[u8]>, Node>,
    /// What a service made, so that it can go.
    services: HashMap<ServiceName, Made>,
    reverse: HashMap<IpAddr, Vec<(ServiceName, Name)>>,
    /// All pods of an address: those of the host's network share some.
    pods: HashMap<IpAddr, Vec<Pod>>,
    authority: Datum,
}

impl Zone {
    /// The zone called `origin`, of which a server at `servers` tells, without any service. `serial`
    /// is that of its SOA record.
    pub(super) fn new(origin: Name, servers: &[IpAddr], serial: u32) -> Self {
        let server = Name::joined(&["ns", "dns"], origin.wire());
        let server = server.unwrap_or_else(|| origin.clone());
        let authority = Datum { kind: SOA, data: authority(&origin, &server, serial) };
        let mut zone = Self {
            origin,
            nodes: HashMap::new(),
            services: HashMap::new(),
            reverse: HashMap::new(),
            pods: HashMap::new(),
            authority: authority.clone(),
        };
        let version = [&[u8::try_from(VERSION.len()).unwrap_or(0)], VERSION.as_bytes()].concat();
        let ours = [
            (Vec::new(), authority),
            (Vec::new(), Datum::name(NS, server)),
            (b"\x0bdns-version".to_vec(), Datum { kind: TXT, data: version.into() }),
            (b"\x03svc".to_vec(), Datum { kind: 0, data: Box::default() }),
            (b"\x03pod".to_vec(), Datum { kind: 0, data: Box::default() }),
        ];
        let servers = servers.iter().map(|address| (b"\x02ns\x03dns".to_vec(), Datum::address(*address)));
        for (labels, datum) in ours.into_iter().chain(servers) {
            zone.add(&labels, datum);
        }
        zone
    }

    pub(super) fn origin(&self) -> &Name {
        &self.origin
    }

    /// What a negative answer is signed with.
    pub(super) fn authority(&self) -> &Datum {
        &self.authority
    }

    /// Exactly these services and pods exist.
    pub(super) fn replace(&mut self, all: Names) {
        let before: Vec<ServiceName> = self.services.keys().cloned().collect();
        before.iter().for_each(|name| self.remove(name));
        all.services.into_iter().for_each(|(name, names)| self.set(name, Some(&names)));
        self.pods.clear();
        all.pods.into_iter().for_each(|(address, pods)| self.set_pods(address, pods));
    }

    /// That service has these names; it has none if there are none.
    pub(super) fn set(&mut self, service: ServiceName, names: Option<&ServiceNames>) {
        self.remove(&service);
        let Some(made) = names.map(|names| records(&self.origin, &service, names)) else { return };
        for (labels, datum) in &made.records {
            self.add(labels, datum.clone());
        }
        for (address, name) in &made.reverse {
            self.reverse.entry(*address).or_default().push((service.clone(), name.clone()));
        }
        self.services.insert(service, made);
    }

    fn remove(&mut self, service: &ServiceName) {
        let Some(made) = self.services.remove(service) else { return };
        for (labels, datum) in &made.records {
            self.take(labels, datum);
        }
        for (address, _) in &made.reverse {
            if let Some(names) = self.reverse.get_mut(address) {
                names.retain(|(owner, _)| owner != service);
                if names.is_empty() {
                    self.reverse.remove(address);
                }
            }
        }
    }

    fn add(&mut self, labels: &[u8], datum: Datum) {
        let node = self.nodes.entry(labels.into()).or_default();
        let is_new = node.records.is_empty() && node.below == 0;
        node.records.push(datum);
        if is_new {
            self.count_above(labels, true);
        }
    }

    fn take(&mut self, labels: &[u8], datum: &Datum) {
        let Some(node) = self.nodes.get_mut(labels) else { return };
        if let Some(at) = node.records.iter().position(|known| known == datum) {
            node.records.remove(at);
        }
        if node.records.is_empty() && node.below == 0 {
            self.nodes.remove(labels);
            self.count_above(labels, false);
        }
    }

    /// Names above `labels`, up to the first that is there for another reason, begin or cease to exist.
    fn count_above(&mut self, labels: &[u8], comes: bool) {
        let mut rest = labels;
        while let Some(start) = name::starts(rest).nth(1).or((!rest.is_empty()).then_some(rest.len())) {
            rest = &rest[start..];
            let node = self.nodes.entry(rest.into()).or_default();
            if comes {
                let is_new = node.records.is_empty() && node.below == 0;
                node.below += 1;
                if !is_new {
                    return;
                }
            } else {
                node.below = node.below.saturating_sub(1);
                if !node.records.is_empty() || node.below > 0 {
                    return;
                }
                self.nodes.remove(rest);
            }
        }
    }

    /// The pods at `address` are these; there are none if there are none.
    pub(super) fn set_pods(&mut self, address: IpAddr, pods: Vec<PodNames>) {
        if pods.is_empty() {
            self.pods.remove(&address);
            return;
        }
        let made = pods.into_iter().map(|pod| Pod {
            namespace: pod.namespace,
            searches: pod.searches.iter().filter_map(|text| Name::parse(text)).collect(),
        });
        self.pods.insert(address, made.collect());
    }

    /// Where the pod at `address` looks for short names.
    pub(super) fn searches(&self, address: IpAddr) -> &[Name] {
        // Several pods share the addresses of the host: nobody knows which of them asks.
        match self.pods.get(&address).map(Vec::as_slice) {
            Some([pod]) => &pod.searches,
            Some([] | [_, _, ..]) | None => &[],
        }
    }

    /// What is known of a name whose labels in front of the origin are these.
    pub(super) fn find(&self, labels: &[u8]) -> Found<'_> {
        if let Some(node) = self.nodes.get(labels) {
            return Found::Records(Cow::Borrowed(&node.records));
        }
        self.find_pod(labels).unwrap_or(Found::NoName)
    }

    /// `a-b-c-d.NAMESPACE.pod`, of a pod that there is.
    fn find_pod(&self, labels: &[u8]) -> Option<Found<'static>> {
        let mut parts = name::labels(labels).collect::<Vec<_>>().into_iter().rev();
        if parts.next() != Some(b"pod") {
            return None;
        }
        let namespace = std::str::from_utf8(parts.next()?).ok()?;
        let is_there = |pods: &Vec<Pod>| pods.iter().any(|pod| pod.namespace == namespace);
        let Some(address) = parts.next() else {
            return self.pods.values().any(is_there).then(|| Found::Records(Cow::Owned(Vec::new())));
        };
        let address = records::undashed(std::str::from_utf8(address).ok()?)?;
        let found = parts.next().is_none() && self.pods.get(&address).is_some_and(is_there);
        found.then(|| Found::Records(Cow::Owned(vec![Datum::address(address)])))
    }

    /// The names of an address.
    pub(super) fn find_address(&self, address: IpAddr) -> Vec<Datum> {
        let names = self.reverse.get(&address).into_iter().flatten();
        names.map(|(_, name)| Datum::name(PTR, name.clone())).collect()
    }
}

fn authority(origin: &Name, server: &Name, serial: u32) -> Box<[u8]> {
    let mail = Name::joined(&["hostmaster"], origin.wire()).unwrap_or_else(|| origin.clone());
    let mut data = [server.wire(), mail.wire()].concat();
    // Refresh, retry, expiry: nobody copies the zone. The last is how long "there is none" is kept.
    for number in [serial, 7200, 1800, 86_400, TTL] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data.into()
}

/// The record of another name that stands for this one, if it has one.
pub(super) fn alias(records: &[Datum]) -> Option<&Datum> {
    records.iter().find(|datum| datum.kind == CNAME)
}

#[cfg(test)]
mod tests;
