//! Service: gives each the addresses and ports of the node that it needs; no two get the same.
//!
//! All services are looked at together, so that what one decision gives away, it gives away once.

pub mod balancer;
#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome};
use crate::store::{Event, State};
use balancer::{Balanced, Pool};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use manifests::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ports of nodes that are given to services. Source: `--service-node-port-range` of Kubernetes.
const NODE_PORTS: std::ops::RangeInclusive<i32> = 30_000..=32_767;
/// The first addresses are left to those who choose one. Source: Kubernetes gives them last.
const CHOSEN: u128 = 16;
/// Of a large network no more is used.
const MOST: u128 = 1 << 20;

/// Where the addresses of services are from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceRules {
    /// IPv4 network and its prefix; no service gets such an address if `None`.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// The same for IPv6.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Where those of type LoadBalancer have theirs for the world from.
    pub pools: Vec<Pool>,
}

impl ServiceRules {
    /// By which no service gets an address.
    pub const NONE: &Self = &Self { v4: None, v6: None, pools: Vec::new() };
}

/// What stands for all services.
fn all() -> ObjectKey {
    ObjectKey::new(Kind::Service, "", "")
}

/// The keys to look at after `event`.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.kind() == Kind::Service { vec![all()] } else { Vec::new() }
}

/// Every service has what it needs, or says what it lacks.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if *key != all() {
        return outcome;
    }
    let mut given = Given::default();
    let services = || state.list(Kind::Service, None).filter_map(|object| service(object));
    let mut balanced = Balanced::default();
    for (service, spec) in services() {
        given.note(service, spec, &mut outcome);
        balanced.note(service, spec, &context.services.pools);
    }
    for (service, spec) in services() {
        let mut next = spec.clone();
        given.complete(service, &mut next, context.services, &mut outcome);
        let status = balanced.complete(service, &next, &context.services.pools, &mut outcome);
        if next != *spec {
            let mut changed = service.clone();
            changed.spec = Some(next);
            outcome.update(changed.into());
        }
        if let Some(status) = status {
            let mut changed = service.clone();
            changed.status.get_or_insert_default().load_balancer = Some(status);
            outcome.update_status(changed.into());
        }
    }
    outcome
}

fn service(object: &Object) -> Option<(&Service, &ServiceSpec)> {
    let service = <&Service>::try_from(object).ok()?;
    Some((service, service.spec.as_ref()?))
}

fn key_of(service: &Service) -> ObjectKey {
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    ObjectKey::new(Kind::Service, word(&service.metadata.namespace), word(&service.metadata.name))
}

/// Whether it has addresses of its own.
fn has_addresses(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.as_deref() != Some("None")
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// Whether a port of the nodes tells whoever balances which nodes have endpoints.
fn has_health_port(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The ports of nodes that are written in `spec`.
fn node_ports(spec: &ServiceSpec) -> impl Iterator<Item = i32> {
    let ports = spec.ports.iter().flatten().filter(|_| has_node_ports(spec));
    let health = spec.health_check_node_port.filter(|_| has_health_port(spec));
    ports.filter_map(|port| port.node_port).chain(health).filter(|number| *number != 0)
}

/// The addresses that are written in `spec`, the first in two fields.
fn addresses(spec: &ServiceSpec) -> BTreeSet<IpAddr> {
    let texts = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// What is taken.
#[derive(Debug, Default)]
struct Given {
    addresses: BTreeMap<IpAddr, ObjectKey>,
    ports: BTreeMap<i32, ObjectKey>,
}

impl Given {
    fn note(&mut self, service: &Service, spec: &ServiceSpec, outcome: &mut Outcome) {
        let key = key_of(service);
        for address in addresses(spec) {
            let holder = self.addresses.entry(address).or_insert_with(|| key.clone());
            if *holder != key {
                let message = format!("the address {address} is that of {holder}, too");
                outcome.warn(&key, "AddressTaken", message);
            }
        }
        for number in node_ports(spec) {
            let holder = self.ports.entry(number).or_insert_with(|| key.clone());
            if *holder != key {
                let message = format!("port {number} of the nodes is that of {holder}, too");
                outcome.warn(&key, "PortTaken", message);
            }
        }
    }

    fn complete(
        &mut self,
        service: &Service,
        spec: &mut ServiceSpec,
        rules: &ServiceRules,
        outcome: &mut Outcome,
    ) {
        let key = key_of(service);
        if spec.type_.as_deref() == Some("ExternalName") {
            return;
        }
        if has_addresses(spec) {
            self.give_addresses(&key, spec, rules, outcome);
        } else {
            spec.cluster_ips = Some(vec!["None".into()]);
            spec.ip_families.get_or_insert_with(|| vec!["IPv4".into()]);
            spec.ip_family_policy.get_or_insert_with(|| "SingleStack".into());
        }
        self.give_ports(&key, spec, outcome);
    }

    fn give_addresses(
        &mut self,
        key: &ObjectKey,
        spec: &mut ServiceSpec,
        rules: &ServiceRules,
        outcome: &mut Outcome,
    ) {
        if rules.v4.is_none() && rules.v6.is_none() {
            return;
        }
        let mut have: Vec<IpAddr> =
            spec.cluster_ips.iter().flatten().filter_map(|t| t.parse().ok()).collect();
        if let Some(first) = spec.cluster_ip.as_ref().and_then(|text| text.parse().ok())
            && have.first() != Some(&first)
        {
            // Somebody chose it; what was given before is free again.
            have = vec![first];
        }
        for family in wanted_families(spec, &have, rules) {
            if have.iter().any(|address| is_of(*address, family)) {
                continue;
            }
            match self.free_address(key, family, rules) {
                Some(address) => {
                    self.addresses.insert(address, key.clone());
                    have.push(address);
                }
                None => {
                    let message = format!("there is no {family} address for it");
                    outcome.warn(key, "NoAddress", message);
                }
            }
        }
        let Some(first) = have.first() else { return };
        spec.cluster_ip = Some(first.to_string());
        spec.cluster_ips = Some(have.iter().map(ToString::to_string).collect());
        spec.ip_families = Some(have.iter().map(|address| family_of(*address).to_owned()).collect());
        spec.ip_family_policy.get_or_insert_with(|| "SingleStack".into());
    }

    /// Begins at a place that comes of the name: what was freed is rarely given to another at once.
    fn free_address(&self, key: &ObjectKey, family: &str, rules: &ServiceRules) -> Option<IpAddr> {
        let (first, bits) = match family {
            "IPv6" => rules.v6.map(|(address, prefix)| (u128::from(address), 128 - u32::from(prefix)))?,
            _ => {
                rules.v4.map(|(address, prefix)| (u128::from(u32::from(address)), 32 - u32::from(prefix)))?
            }
        };
        let size = 1_u128.checked_shl(bits).unwrap_or(MOST).min(MOST);
        // Neither the first nor the last, which stand for the network itself.
        let least = if size > 4 * CHOSEN { CHOSEN } else { 1 };
        let count = size.checked_sub(least + 1).filter(|count| *count > 0)?;
        let start = u128::from(place_of(&key.to_string()));
        (0..count).find_map(|step| {
            let number = first + least + (start + step) % count;
            let address: IpAddr = match family {
                "IPv6" => Ipv6Addr::from(number).into(),
                _ => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
            };
            (!self.addresses.contains_key(&address)).then_some(address)
        })
    }

    fn give_ports(&mut self, key: &ObjectKey, spec: &mut ServiceSpec, outcome: &mut Outcome) {
        let wants = has_node_ports(spec);
        let kept = wants || spec.type_.as_deref() == Some("LoadBalancer");
        for port in spec.ports.iter_mut().flatten() {
            if !kept {
                port.node_port = None;
            }
            if !wants || port.node_port.is_some_and(|number| number != 0) {
                continue;
            }
            let name = format!("{key} {} {}", port.port, port.protocol.as_deref().unwrap_or_default());
            port.node_port = self.free_port(key, &name, outcome);
        }
        if !has_health_port(spec) {
            spec.health_check_node_port = None;
        } else if spec.health_check_node_port.is_none_or(|number| number == 0) {
            spec.health_check_node_port = self.free_port(key, &format!("{key} health"), outcome);
        }
    }

    /// Begins at a place that comes of the name, as with addresses.
    fn free_port(&mut self, key: &ObjectKey, name: &str, outcome: &mut Outcome) -> Option<i32> {
        let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
        let start = i32::try_from(place_of(name) % u64::from(count.unsigned_abs())).unwrap_or(0);
        let mut numbers = (0..count).map(|step| NODE_PORTS.start() + (start + step) % count);
        let free = numbers.find(|number| !self.ports.contains_key(number));
        match free {
            Some(number) => drop(self.ports.insert(number, key.clone())),
            None => outcome.warn(key, "NoPort", "no port of the nodes is free for it".to_owned()),
        }
        free
    }
}

/// The families that the service is to have, the main one first.
fn wanted_families(spec: &ServiceSpec, have: &[IpAddr], rules: &ServiceRules) -> Vec<&'static str> {
    let known = |family: &String| if family == "IPv6" { "IPv6" } else { "IPv4" };
    let mut wanted: Vec<&str> = have.iter().map(|address| family_of(*address)).collect();
    wanted.extend(spec.ip_families.iter().flatten().map(known));
    if wanted.is_empty() {
        wanted.push(if rules.v4.is_some() { "IPv4" } else { "IPv6" });
    }
    let other = if wanted[0] == "IPv4" { "IPv6" } else { "IPv4" };
    let has_other = if other == "IPv6" { rules.v6.is_some() } else { rules.v4.is_some() };
    match spec.ip_family_policy.as_deref() {
        Some("RequireDualStack") => wanted.push(other),
        Some("PreferDualStack") if has_other => wanted.push(other),
        Some("PreferDualStack") => wanted.truncate(1),
        _ => wanted.truncate(1),
    }
    let mut seen = BTreeSet::new();
    wanted.retain(|family| seen.insert(*family));
    wanted
}

const fn family_of(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn is_of(address: IpAddr, family: &str) -> bool {
    family_of(address) == family
}

/// Source: the Fowler–Noll–Vo hash, variant 1a, 64 bits.
fn place_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
