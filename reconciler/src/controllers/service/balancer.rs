//! Addresses of pools for services of type LoadBalancer.
//!
//! What a service has it keeps, as long as a pool has it and nothing else is asked for. Addresses of
//! services whose load balancer is somebody else's are not touched.

#[cfg(test)]
mod tests;

use super::{family_of, is_of, key_of};
use crate::controllers::Outcome;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec};
use manifests::ObjectKey;
use manifests::config::{IpRange, PoolConfiguration};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The `loadBalancerClass` of services that have addresses from here, beside those that name none.
pub const CLASS: &str = "evenkeel.dev/load-balancer";
/// Annotations with the addresses that a service wishes for, with commas between; ours, then MetalLB's.
const ADDRESSES: [&str; 3] =
    ["evenkeel.dev/load-balancer-ips", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
/// With the name of the pool that a service wishes for.
const POOL: [&str; 3] =
    ["evenkeel.dev/address-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
/// With a word: services that have the same may share an address.
const SHARED: [&str; 3] =
    ["evenkeel.dev/allow-shared-ip", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub ranges: Vec<IpRange>,
    /// Given to services that do not ask for it.
    pub auto_assign: bool,
    /// IPv4 addresses that end in 0 or 255 are not given.
    pub avoid_buggy: bool,
}

impl Pool {
    /// As the configuration says.
    #[must_use]
    pub fn of(configuration: &PoolConfiguration) -> Self {
        Self {
            name: configuration.name.clone(),
            ranges: configuration.ranges(),
            auto_assign: configuration.auto_assign,
            avoid_buggy: configuration.avoid_buggy_ips,
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    fn gives(&self, address: IpAddr) -> bool {
        let ends = |address: IpAddr| match address {
            IpAddr::V4(address) => matches!(address.octets()[3], 0 | 255),
            IpAddr::V6(_) => false,
        };
        !(self.avoid_buggy && ends(address))
    }
}

/// Whether a service has its addresses from here.
#[must_use]
pub fn is_balanced(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
}

/// The addresses that are written in the status of `service`.
#[must_use]
pub fn balanced_addresses(service: &Service) -> Vec<IpAddr> {
    ingress(service).iter().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default()
}

fn annotation<'a>(service: &'a Service, names: [&str; 3]) -> Option<&'a str> {
    let all = service.metadata.annotations.as_ref()?;
    names.into_iter().find_map(|name| all.get(name)).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// A service that has an address.
#[derive(Debug)]
struct Holder {
    key: ObjectKey,
    shared: Option<String>,
    ports: BTreeSet<(String, i32)>,
    /// Of one whose clients get endpoints of the node that they come to, whom it selects.
    local: Option<BTreeMap<String, String>>,
}

impl Holder {
    fn of(service: &Service, spec: &ServiceSpec) -> Self {
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
            (port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.port)
        };
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        Self {
            key: key_of(service),
            shared: annotation(service, SHARED).map(str::to_owned),
            ports: spec.ports.iter().flatten().map(port).collect(),
            local: is_local.then(|| spec.selector.clone().unwrap_or_default()),
        }
    }

    /// Whether both may have one address: both say so, no port is of both, and the node that answers
    /// for the one can answer for the other.
    fn gets_along_with(&self, other: &Self) -> bool {
        self.shared.is_some()
            && self.shared == other.shared
            && self.ports.is_disjoint(&other.ports)
            && self.local == other.local
    }
}

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct Balanced {
    holders: BTreeMap<IpAddr, Vec<Holder>>,
    /// Addresses that services name as their own.
    external: BTreeMap<IpAddr, ObjectKey>,
    /// Up to where the addresses of a range are taken.
    reached: BTreeMap<IpRange, IpAddr>,
}

impl Balanced {
    /// What the service has already.
    pub(super) fn note(&mut self, service: &Service, spec: &ServiceSpec, pools: &[Pool]) {
        for address in spec.external_ips.iter().flatten().filter_map(|text| text.parse().ok()) {
            self.external.entry(address).or_insert_with(|| key_of(service));
        }
        if !is_balanced(spec) {
            return;
        }
        for address in balanced_addresses(service) {
            let holder = Holder::of(service, spec);
            if pools.iter().any(|pool| pool.has(address)) && self.in_the_way(address, &holder).is_none() {
                self.holders.entry(address).or_default().push(holder);
            }
        }
    }

    /// The status of `service`, whose `spec` is complete but for that; nothing if it is to stay.
    pub(super) fn complete(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        pools: &[Pool],
        outcome: &mut Outcome,
    ) -> Option<LoadBalancerStatus> {
        if !is_balanced(spec) {
            // Of another class it is somebody else's; of another type it is nobody's.
            let is_nobodys = spec.type_.as_deref() != Some("LoadBalancer") && !ingress(service).is_empty();
            return is_nobodys.then(LoadBalancerStatus::default);
        }
        if pools.is_empty() {
            if ingress(service).is_empty() {
                let message = "there is no pool: network.loadBalancer.pools of the configuration has them";
                outcome.warn(&key_of(service), "AllocationFailed", message.to_owned());
            }
            return None;
        }
        let addresses = self.give(service, spec, pools, outcome);
        let old = balanced_addresses(service);
        let is_told = ingress(service).iter().all(|ingress| ingress.ip_mode.as_deref() == Some("VIP"));
        if old == addresses && ingress(service).len() == old.len() && is_told {
            return None;
        }
        if old != addresses && !addresses.is_empty() {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let message = format!("clients outside reach it by {}", list.join(" and "));
            outcome.note(&key_of(service), "IPAllocated", message);
        }
        let made = |address: IpAddr| LoadBalancerIngress {
            ip: Some(address.to_string()),
            ip_mode: Some("VIP".into()),
            ..LoadBalancerIngress::default()
        };
        let ingress: Vec<_> = addresses.into_iter().map(made).collect();
        Some(LoadBalancerStatus { ingress: (!ingress.is_empty()).then_some(ingress) })
    }

    /// An address of each family of the service, as far as there is one.
    fn give(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        pools: &[Pool],
        outcome: &mut Outcome,
    ) -> Vec<IpAddr> {
        let key = key_of(service);
        let families = spec.ip_families.clone().unwrap_or_else(|| vec!["IPv4".into()]);
        let wishes = wishes(service, spec, &families, outcome);
        let wanted = annotation(service, POOL);
        if let Some(name) = wanted.filter(|name| !pools.iter().any(|pool| pool.name == *name)) {
            outcome.warn(&key, "AllocationFailed", format!("there is no pool `{name}`"));
        }
        let old = balanced_addresses(service);
        let mut given = Vec::new();
        let mut preferred = None;
        for family in &families {
            let had = old.iter().copied().find(|address| is_of(*address, family));
            let wish = wishes.iter().copied().find(|address| is_of(*address, family));
            let holder = || Holder::of(service, spec);
            let is_wanted = |pool: &&Pool| wanted.is_none_or(|name| pool.name == name);
            let has = |address: IpAddr| pools.iter().filter(is_wanted).find(|pool| pool.has(address));
            let kept = had.filter(|had| self.holds(&key, *had) && wish.is_none_or(|wish| wish == *had));
            if let Some((kept, pool)) = kept.and_then(|kept| Some((kept, has(kept)?))) {
                preferred = Some(pool);
                given.push(kept);
                continue;
            }
            if let Some(had) = had {
                self.release(&key, had);
            }
            let found = match wish {
                Some(wish) => match self.refusal(wish, &holder(), has(wish).is_some()) {
                    None => Ok(wish),
                    Some(why) => Err(why),
                },
                None => {
                    let fits = |pool: &&Pool| is_wanted(pool) && (wanted.is_some() || pool.auto_assign);
                    let pools = preferred.into_iter().chain(pools.iter().filter(fits));
                    let found = self.free(pools, family, &holder());
                    found.ok_or_else(|| format!("no pool has an {family} address left for it"))
                }
            };
            match found {
                Ok(address) => {
                    preferred = preferred.or_else(|| has(address));
                    self.holders.entry(address).or_default().push(holder());
                    given.push(address);
                }
                Err(why) => outcome.warn(&key, "AllocationFailed", why),
            }
        }
        given
    }

    fn holds(&self, key: &ObjectKey, address: IpAddr) -> bool {
        self.holders.get(&address).into_iter().flatten().any(|holder| holder.key == *key)
    }

    fn release(&mut self, key: &ObjectKey, address: IpAddr) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.retain(|holder| holder.key != *key);
        }
    }

    /// Who keeps `holder` from having the address.
    fn in_the_way(&self, address: IpAddr, holder: &Holder) -> Option<&ObjectKey> {
        let external = self.external.get(&address).filter(|key| **key != holder.key);
        let holders = self.holders.get(&address).into_iter().flatten();
        let mut others = holders.filter(|other| other.key != holder.key);
        external.or_else(|| others.find(|other| !other.gets_along_with(holder)).map(|other| &other.key))
    }

    /// Why a service does not get the address that it wishes for.
    fn refusal(&self, wish: IpAddr, holder: &Holder, is_in_pool: bool) -> Option<String> {
        if !is_in_pool {
            return Some(format!("the address {wish} is in no pool that it may have it from"));
        }
        let other = self.in_the_way(wish, holder)?;
        Some(format!("the address {wish} is that of {other}"))
    }

    /// The first address that nobody has; before that, one that others share with it.
    fn free<'a>(
        &mut self,
        pools: impl Iterator<Item = &'a Pool>,
        family: &str,
        holder: &Holder,
    ) -> Option<IpAddr> {
        let pools: Vec<_> = pools.collect();
        if holder.shared.is_some() {
            let is_shared = |address: &IpAddr| {
                let holders = self.holders.get(address).is_some_and(|holders| !holders.is_empty());
                holders && is_of(*address, family) && self.in_the_way(*address, holder).is_none()
            };
            let of_pools = |address: &&IpAddr| pools.iter().any(|pool| pool.has(**address));
            if let Some(address) = self.holders.keys().filter(of_pools).find(|address| is_shared(address)) {
                return Some(*address);
            }
        }
        for pool in pools {
            for range in pool.ranges.iter().filter(|range| is_of(range.first, family)) {
                let first = self.reached.get(range).copied().unwrap_or(range.first);
                let is_free = |address: &IpAddr| {
                    let taken = self.holders.get(address).is_some_and(|holders| !holders.is_empty());
                    !taken && !self.external.contains_key(address) && pool.gives(*address)
                };
                let found = IpRange { first, ..*range }.addresses().find(is_free);
                self.reached.insert(*range, found.unwrap_or(range.last));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// The addresses that the service wishes for, at most one of each of its families.
fn wishes(service: &Service, spec: &ServiceSpec, families: &[String], outcome: &mut Outcome) -> Vec<IpAddr> {
    let text = annotation(service, ADDRESSES).or(spec.load_balancer_ip.as_deref()).unwrap_or_default();
    let mut wishes: Vec<IpAddr> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let message = match word.parse::<IpAddr>() {
            Err(_) => format!("`{word}` is no address"),
            Ok(address) if !families.iter().any(|family| is_of(address, family)) => {
                format!("it has no addresses of {}, as {word} is", family_of(address))
            }
            Ok(address) if wishes.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
                format!("it wishes for {word} and another address of {}", family_of(address))
            }
            Ok(address) => {
                wishes.push(address);
                continue;
            }
        };
        outcome.warn(&key_of(service), "AllocationFailed", message);
    }
    wishes
}
