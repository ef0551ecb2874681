//! A Service and its EndpointSlices → what the network makes of them. Pure.

use super::health::Health;
use k8s_openapi::api::core::v1::{Service, ServicePort as Port, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use netstack::{Balancer, Endpoint, Policy, ServicePort, Target, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// How long a client stays with one endpoint if nothing is said: three hours.
const AFFINITY: Duration = Duration::from_secs(10_800);

/// The ports that are to be led somewhere; none of a service without an address of its own.
pub(crate) fn ports(service: &Service, slices: &[&EndpointSlice]) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let cluster_addresses = cluster_addresses(spec);
    if cluster_addresses.is_empty() {
        return Vec::new();
    }
    let (external_addresses, balancer) =
        (addresses(spec.external_ips.iter().flatten()), balancer(service, spec));
    let make = |port: &Port| {
        Some(ServicePort {
            transport: transport(port.protocol.as_deref())?,
            port: number(port.port)?,
            cluster_addresses: cluster_addresses.clone(),
            external_addresses: external_addresses.clone(),
            balancer: balancer.clone(),
            node_port: port.node_port.and_then(number),
            affinity: affinity(spec),
            internal: policy(spec.internal_traffic_policy.as_deref()),
            external: policy(spec.external_traffic_policy.as_deref()),
            endpoints: slices.iter().flat_map(|slice| endpoints(slice, port)).collect(),
        })
    };
    spec.ports.iter().flatten().filter_map(make).collect()
}

/// What is to be told of the service's health on the node `me`, if it has a port for that.
pub(super) fn health(service: &Service, slices: &[&EndpointSlice], me: &str) -> Option<Health> {
    let spec = service.spec.as_ref()?;
    let is_asked = spec.type_.as_deref() == Some("LoadBalancer")
        && policy(spec.external_traffic_policy.as_deref()) == Policy::Local;
    let port = spec.health_check_node_port.filter(|_| is_asked).and_then(number)?;
    let all = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let here = all.filter(|endpoint| endpoint.node_name.as_deref() == Some(me));
    let ready = here.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    let addresses: BTreeSet<&String> = ready.filter_map(|endpoint| endpoint.addresses.first()).collect();
    // A pod with addresses of two families is one.
    let of_v6 = addresses.iter().filter(|address| address.contains(':')).count();
    Some(Health { port, local: of_v6.max(addresses.len() - of_v6) })
}

fn cluster_addresses(spec: &ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten();
    let mut addresses: Vec<IpAddr> = listed.filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip.as_ref().and_then(|text| text.parse::<IpAddr>().ok()));
    }
    addresses
}

fn balancer(service: &Service, spec: &ServiceSpec) -> Balancer {
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return Balancer::default();
    }
    let ingress = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
    // Another one's packets come as the balancer's own, for the node's port.
    let ingress = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let sources = spec.load_balancer_source_ranges.iter().flatten().filter_map(|text| network(text.trim()));
    Balancer {
        addresses: addresses(ingress.filter_map(|ingress| ingress.ip.as_ref())),
        sources: sources.collect(),
    }
}

/// Each once.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in texts.filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

/// SCTP is refused before it comes here.
pub(crate) fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        _ => None,
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds).and_then(|s| u64::try_from(s).ok());
    Some(seconds.map_or(AFFINITY, Duration::from_secs))
}

fn policy(word: Option<&str>) -> Policy {
    if word == Some("Local") { Policy::Local } else { Policy::Cluster }
}

/// The endpoints that have the port, at their number for it.
pub(crate) fn endpoints(slice: &EndpointSlice, port: &Port) -> Vec<Endpoint> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let there = slice.ports.iter().flatten().find(|there| {
        there.name.as_deref().unwrap_or_default() == name
            && there.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    let Some(number) = there.and_then(|there| number(there.port?)) else { return Vec::new() };
    slice.endpoints.iter().flatten().filter_map(|endpoint| made(endpoint, number)).collect()
}

fn made(endpoint: &SliceEndpoint, port: u16) -> Option<Endpoint> {
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    // What is not said is as the API reference says it is meant.
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        target: Target { address, port },
        node: endpoint.node_name.clone(),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        zones: zones.map(|zone| zone.name.clone()).collect(),
        nodes: nodes.map(|node| node.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: &Value) -> Service {
        let mut whole = json!({
            "clusterIP": "10.96.0.1",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}],
        });
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let status = json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "somewhere"},
        ]}});
        serde_json::from_value(json!({"metadata": {}, "spec": whole, "status": status})).unwrap()
    }

    fn slice(endpoints: &Value) -> EndpointSlice {
        let ports = json!([{"name": "dns", "port": 5353, "protocol": "UDP"}]);
        serde_json::from_value(json!({
            "metadata": {}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap()
    }

    #[test]
    fn every_field_arrives() {
        let spec = json!({
            "clusterIPs": ["10.96.0.1", "fd96::1"], "externalIPs": ["203.0.113.1"],
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}},
            "externalTrafficPolicy": "Local", "type": "LoadBalancer",
            "loadBalancerSourceRanges": ["192.0.2.0/24", " 2001:db8::/32"],
        });
        let endpoints = json!([
            {"addresses": ["10.88.0.2"], "nodeName": "n"},
            {"addresses": ["10.88.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true},
             "hints": {"forZones": [{"name": "red"}], "forNodes": [{"name": "m"}]}},
        ]);
        let made = ports(&service(&spec), &[&slice(&endpoints)]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = Endpoint {
            node: Some("n".into()),
            ..Endpoint::ready(Target { address: ip("10.88.0.2"), port: 5353 })
        };
        let second = Endpoint {
            target: Target { address: ip("10.88.0.3"), port: 5353 },
            node: None,
            ready: false,
            serving: true,
            terminating: true,
            zones: vec!["red".into()],
            nodes: vec!["m".into()],
        };
        let wanted = ServicePort {
            transport: Transport::Udp,
            port: 53,
            cluster_addresses: vec![ip("10.96.0.1"), ip("fd96::1")],
            external_addresses: vec![ip("203.0.113.1")],
            balancer: Balancer {
                addresses: vec![ip("192.0.2.9")],
                sources: vec![(ip("192.0.2.0"), 24), (ip("2001:db8::"), 32)],
            },
            node_port: Some(30_053),
            affinity: Some(Duration::from_secs(7)),
            internal: Policy::Cluster,
            external: Policy::Local,
            endpoints: vec![first, second],
        };
        assert_eq!(made, [wanted]);
    }

    #[test]
    fn health_counts_pods_of_this_node_that_are_ready_once() {
        let spec =
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_999});
        let endpoint = |address: &str, node: &str, ready: bool| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready}});
        let v4 = slice(&json!([
            endpoint("10.88.0.2", "me", true),
            endpoint("10.88.0.3", "me", false),
            endpoint("10.89.0.2", "you", true),
        ]));
        let v6 = slice(&json!([endpoint("fd88::2", "me", true)]));
        let told = |spec: &Value| health(&service(spec), &[&v4, &v6], "me");
        assert_eq!(told(&spec), Some(Health { port: 30_999, local: 1 }));
        let mut open = spec.clone();
        open["externalTrafficPolicy"] = "Cluster".into();
        assert_eq!(told(&open), None);
    }

    #[test]
    fn only_a_load_balancers_service_has_its_addresses() {
        let made = ports(&service(&json!({"type": "NodePort"})), &[]);
        assert_eq!(made[0].balancer, Balancer::default());
    }

    #[test]
    fn services_without_an_address_lead_nowhere() {
        for spec in
            [json!({"clusterIP": "None"}), json!({"clusterIP": null}), json!({"type": "ExternalName"})]
        {
            assert!(ports(&service(&spec), &[]).is_empty(), "{spec}");
        }
    }

    #[test]
    fn slices_of_other_ports_do_not_answer() {
        let other = json!({"ports": [{"name": "dns", "port": 53, "protocol": "TCP"}]});
        let made = ports(&service(&other), &[&slice(&json!([{"addresses": ["10.88.0.2"]}]))]);
        assert!(made[0].endpoints.is_empty());
    }
}
