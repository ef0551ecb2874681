//! What of services' addresses is announced by this node, and how. Pure: every node comes to the same
//! by itself, from its own replica of the store.

use crate::overlay::HOLLOW;
use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use manifests::config::{AgentConfiguration, Announcement, BgpAnnouncement};
use manifests::{Kind, Object, ObjectKey};
use netstack::{Subnet, announcer};
use reconciler::controllers::endpoints::SERVICE_LABEL;
use reconciler::controllers::service::balancer::{balanced_addresses, is_balanced};
use reconciler::store::State;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Label of nodes that announce nothing. Source: Kubernetes' well-known labels.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What this node announces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Addresses that it answers for on its links, with the services that have them.
    pub(super) link: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    /// What it tells routers, but for what is always the same.
    pub(super) routes: BTreeSet<Subnet>,
    /// The labels of this node.
    pub(super) labels: BTreeMap<String, String>,
    /// Services whose endpoints matter.
    pub(super) services: BTreeSet<ObjectKey>,
}

/// A service's address for the world.
struct Claim<'a> {
    key: ObjectKey,
    announcement: Announcement,
    /// The nodes that can lead clients on; none if all can.
    nodes: Option<BTreeSet<&'a str>>,
}

/// What `state` comes to on the node `me`.
pub(super) fn wanted(state: &State, me: &str, configuration: &AgentConfiguration) -> Wanted {
    let mut claims: BTreeMap<IpAddr, Vec<Claim<'_>>> = BTreeMap::new();
    let own = state.get(&ObjectKey::new(Kind::Node, "", me)).and_then(|own| own.metadata().labels.clone());
    let mut wanted = Wanted { labels: own.unwrap_or_default(), ..Wanted::default() };
    let mut endpoints = Endpoints { state, slices: None };
    for object in state.list(Kind::Service, None) {
        let Ok(service) = <&Service>::try_from(&**object) else { continue };
        let Some(spec) = &service.spec else { continue };
        let addresses = addresses(service, spec, configuration);
        if addresses.is_empty() {
            continue;
        }
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let key = object.key();
        let nodes = is_local.then(|| endpoints.nodes_of(&key));
        wanted.services.insert(key.clone());
        for (address, announcement) in addresses {
            let claim = Claim { key: key.clone(), announcement, nodes: nodes.clone() };
            claims.entry(address).or_default().push(claim);
        }
    }
    let nodes = able(state);
    for (address, claims) in &claims {
        let can = |node: &&str| {
            claims.iter().filter_map(|claim| claim.nodes.as_ref()).all(|nodes| nodes.contains(node))
        };
        let able: Vec<&str> = nodes.iter().copied().filter(can).collect();
        match claims[0].announcement {
            Announcement::Link if announcer(*address, able.iter().copied()) == Some(me) => {
                wanted.link.insert(*address, claims.iter().map(|claim| claim.key.clone()).collect());
            }
            Announcement::Bgp if able.contains(&me) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                wanted.routes.insert(Subnet::containing(*address, bits));
            }
            Announcement::Link | Announcement::Bgp | Announcement::None => {}
        }
    }
    wanted
}

/// Whether a change of `object` can change what is wanted, where endpoints of `services` matter.
pub(super) fn matters(object: &Object, services: &BTreeSet<ObjectKey>) -> bool {
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind matters to the world")]
    match object.kind() {
        Kind::Node => true,
        Kind::Service => {
            let spec = <&Service>::try_from(object).ok().and_then(|service| service.spec.as_ref());
            let has = |spec: &ServiceSpec| {
                spec.type_.as_deref() == Some("LoadBalancer") || spec.external_ips.is_some()
            };
            services.contains(&object.key()) || spec.is_some_and(has)
        }
        Kind::EndpointSlice => {
            let label = object.metadata().labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
            let key = label.map(|name| ObjectKey::new(Kind::Service, object.namespace(), name.as_str()));
            key.is_some_and(|key| services.contains(&key))
        }
        _ => false,
    }
}

/// The addresses of a service for the world, and how the world hears of each.
fn addresses(
    service: &Service,
    spec: &ServiceSpec,
    configuration: &AgentConfiguration,
) -> Vec<(IpAddr, Announcement)> {
    let (pools, bgp) = (&configuration.network.load_balancer, configuration.network.bgp.as_ref());
    let tells = |what| bgp.is_some_and(|bgp| bgp.announces(what));
    let mut addresses = Vec::new();
    if is_balanced(spec) {
        let given = balanced_addresses(service).into_iter();
        addresses.extend(given.filter_map(|address| Some((address, pools.announcement(address)?))));
    }
    if !tells(BgpAnnouncement::LoadBalancer) {
        addresses.retain(|(_, announcement)| *announcement != Announcement::Bgp);
    }
    if tells(BgpAnnouncement::ExternalIp) {
        let named = spec.external_ips.iter().flatten().filter_map(|text| text.parse().ok());
        addresses.extend(named.map(|address| (address, Announcement::Bgp)));
    }
    addresses.retain(|(_, announcement)| *announcement != Announcement::None);
    addresses
}

/// The nodes that can answer for an address.
fn able(state: &State) -> Vec<&str> {
    let nodes = state.list(Kind::Node, None).filter_map(|object| <&Node>::try_from(&**object).ok());
    let can = |node: &&Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let labels = node.metadata.labels.as_ref();
        let is_out = labels.is_some_and(|all| all.contains_key(EXCLUDED) || all.contains_key(HOLLOW));
        is_ready && !is_out && node.metadata.deletion_timestamp.is_none()
    };
    nodes.filter(can).filter_map(|node| node.metadata.name.as_deref()).collect()
}

/// Slices by namespace and service, looked up when the first service asks.
struct Endpoints<'a> {
    state: &'a State,
    slices: Option<BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>>,
}

impl<'a> Endpoints<'a> {
    /// The nodes that have endpoints of the service: that are ready, or else those that end and serve.
    fn nodes_of(&mut self, service: &ObjectKey) -> BTreeSet<&'a str> {
        let slices = self.slices.get_or_insert_with(|| {
            let mut slices: BTreeMap<_, Vec<&EndpointSlice>> = BTreeMap::new();
            for object in self.state.list(Kind::EndpointSlice, None) {
                let Ok(slice) = <&EndpointSlice>::try_from(&**object) else { continue };
                if let Some(name) = slice.metadata.labels.as_ref().and_then(|all| all.get(SERVICE_LABEL)) {
                    slices.entry((object.namespace(), name.as_str())).or_default().push(slice);
                }
            }
            slices
        });
        let key = (service.namespace.as_str(), service.name.as_str());
        let slices = slices.get(&key).into_iter().flatten();
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
        let usable = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let says = |word: Option<bool>| word == Some(true);
            ready || conditions.is_some_and(|c| says(c.serving) && says(c.terminating))
        });
        usable.filter_map(|endpoint| endpoint.node_name.as_deref()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::config::BgpConfiguration;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn put(state: &mut State, kind: Kind, name: &str, mut value: Value) {
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.as_str().into();
        value["metadata"]["name"] = name.into();
        if kind.is_namespaced() {
            value["metadata"]["namespace"] = "default".into();
        }
        state.insert(Arc::new(Object::from_json(kind, value).unwrap()), 1);
    }

    fn node(state: &mut State, name: &str, ready: &str, labels: &Value) {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        put(state, Kind::Node, name, json!({"metadata": {"labels": labels}, "status": status}));
    }

    fn service(state: &mut State, name: &str, policy: &str, address: &str) {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": policy, "ports": [{"port": 80}],
            "externalIPs": ["203.0.113.9"]});
        let status = json!({"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}});
        put(state, Kind::Service, name, json!({"spec": spec, "status": status}));
    }

    fn endpoints(state: &mut State, service: &str, nodes: &[(&str, bool)]) {
        let endpoint = |(node, ready): &(&str, bool)| json!({"addresses": ["10.88.0.2"], "nodeName": node, "conditions": {"ready": ready}});
        let list: Vec<_> = nodes.iter().map(endpoint).collect();
        let labels = json!({"kubernetes.io/service-name": service});
        let slice = json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": list});
        put(state, Kind::EndpointSlice, &format!("{service}-1"), slice);
    }

    fn configuration(announce: &[&str]) -> AgentConfiguration {
        let pool = |name: &str, range: &str, how: &str| {
            serde_json::from_value(json!({"name": name, "addresses": [range], "announce": how})).unwrap()
        };
        let mut configuration = AgentConfiguration::default();
        configuration.network.load_balancer.pools = vec![
            pool("l2", "192.0.2.0/25", "l2"),
            pool("bgp", "192.0.2.128/26", "bgp"),
            pool("none", "192.0.2.192/26", "none"),
        ];
        let announce = announce.iter().map(ToString::to_string).collect();
        configuration.network.bgp = Some(BgpConfiguration { announce, ..BgpConfiguration::default() });
        configuration
    }

    fn holders(state: &State, address: &str) -> Vec<&'static str> {
        let address = address.parse().unwrap();
        let has = |me: &&str| wanted(state, me, &configuration(&[])).link.contains_key(&address);
        ["a", "b", "c", "d"].into_iter().filter(has).collect()
    }

    #[test]
    fn one_node_answers_for_an_address_and_another_when_it_is_lost() {
        let mut state = State::default();
        for name in ["a", "b", "c"] {
            node(&mut state, name, "True", &json!({}));
        }
        node(&mut state, "d", "True", &json!({EXCLUDED: "true"}));
        service(&mut state, "web", "Cluster", "192.0.2.7");
        service(&mut state, "far", "Cluster", "192.0.2.200");
        let first = holders(&state, "192.0.2.7");
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(holders(&state, "192.0.2.200"), [] as [&str; 0], "others see to that");
        node(&mut state, first[0], "Unknown", &json!({}));
        let second = holders(&state, "192.0.2.7");
        assert!(second.len() == 1 && second != first && second != ["d"], "{second:?}");
        node(&mut state, first[0], "True", &json!({}));
        assert_eq!(holders(&state, "192.0.2.7"), first);
    }

    #[test]
    fn a_local_policy_binds_an_address_to_nodes_with_endpoints() {
        let mut state = State::default();
        for name in ["a", "b", "c"] {
            node(&mut state, name, "True", &json!({}));
        }
        for number in 0..20 {
            let (name, address) = (format!("s{number}"), format!("192.0.2.{number}"));
            service(&mut state, &name, "Local", &address);
            endpoints(&mut state, &name, &[("a", false), ("b", true)]);
            assert_eq!(holders(&state, &address), ["b"]);
        }
        endpoints(&mut state, "s0", &[("a", false)]);
        assert_eq!(holders(&state, "192.0.2.0"), [] as [&str; 0]);
        // Two that share an address have it where both have endpoints.
        service(&mut state, "s1", "Local", "192.0.2.2");
        endpoints(&mut state, "s1", &[("a", true), ("c", true)]);
        endpoints(&mut state, "s2", &[("b", true), ("c", true)]);
        assert_eq!(holders(&state, "192.0.2.2"), ["c"]);
    }

    #[test]
    fn routers_are_told_by_every_node_that_can_lead_on() {
        let mut state = State::default();
        for name in ["a", "b"] {
            node(&mut state, name, "True", &json!({}));
        }
        service(&mut state, "web", "Cluster", "192.0.2.129");
        service(&mut state, "own", "Local", "192.0.2.130");
        endpoints(&mut state, "own", &[("b", true)]);
        let told = |me: &str, announce: &[&str]| {
            let routes = wanted(&state, me, &configuration(announce)).routes;
            routes.into_iter().map(|route| route.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told("a", &["LoadBalancer"]), "192.0.2.129/32");
        assert_eq!(told("b", &["LoadBalancer"]), "192.0.2.129/32 192.0.2.130/32");
        assert_eq!(told("b", &["PodCIDR"]), "");
        assert_eq!(
            told("b", &["LoadBalancer", "ExternalIP"]),
            "192.0.2.129/32 192.0.2.130/32 203.0.113.9/32"
        );
    }

    #[test]
    fn only_what_can_change_something_is_looked_at() {
        let mut state = State::default();
        service(&mut state, "web", "Local", "192.0.2.7");
        endpoints(&mut state, "web", &[("a", true)]);
        endpoints(&mut state, "other", &[("a", true)]);
        let services = wanted(&state, "a", &configuration(&[])).services;
        let of = |kind, name: &str| {
            let key = ObjectKey::new(kind, "default", name);
            matters(state.get(&key).unwrap(), &services)
        };
        assert!(of(Kind::Service, "web") && of(Kind::EndpointSlice, "web-1"));
        assert!(!of(Kind::EndpointSlice, "other-1"));
    }
}
