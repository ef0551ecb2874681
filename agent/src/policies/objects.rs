//! NetworkPolicies, Pods and Namespaces → what the network makes of them. Pure.

use crate::node::host_ports::protocol;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use netstack::policies::{IpBlock, NamedPort, Peer, Policy, PolicyPod, Ports, Requirement, Rule, Selector};
use std::net::IpAddr;

/// What is written in a policy. Where something makes no sense, which the rules of manifests do not let
/// by, less is allowed, not more.
pub(super) fn policy(policy: &NetworkPolicy) -> Option<Policy> {
    let spec = policy.spec.as_ref()?;
    let types = spec.policy_types.iter().flatten();
    let says = |word: &str| types.clone().any(|kind| kind == word);
    let ingress = spec.ingress.iter().flatten().map(|r| rule(r.from.as_deref(), r.ports.as_deref()));
    let egress = spec.egress.iter().flatten().map(|r| rule(r.to.as_deref(), r.ports.as_deref()));
    Some(Policy {
        pods: spec.pod_selector.as_ref().map(selector).unwrap_or_default(),
        ingress: says("Ingress").then(|| ingress.flatten().collect()),
        egress: says("Egress").then(|| egress.flatten().collect()),
    })
}

/// `None` if nothing of what it names makes sense: without any it would be about everybody.
fn rule(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Option<Rule> {
    let (peers, ports) = (peers.unwrap_or_default(), ports.unwrap_or_default());
    let rule = Rule {
        peers: peers.iter().filter_map(peer).collect(),
        ports: ports.iter().filter_map(numbers).collect(),
    };
    let is_whole = rule.peers.is_empty() == peers.is_empty() && rule.ports.is_empty() == ports.is_empty();
    is_whole.then_some(rule)
}

fn peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten();
        // One that cannot be read must not let anybody in: then the block does not count.
        let except = except.map(|text| network(text)).collect::<Option<_>>()?;
        return Some(Peer::Block(IpBlock { network: network(&block.cidr)?, except }));
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return None;
    }
    Some(Peer::Pods {
        namespaces: peer.namespace_selector.as_ref().map(selector),
        pods: peer.pod_selector.as_ref().map(selector).unwrap_or_default(),
    })
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
}

fn numbers(port: &NetworkPolicyPort) -> Option<Ports> {
    let protocol = protocol(port.protocol.as_deref());
    let number = |port: i32| u16::try_from(port).ok();
    match &port.port {
        None => Some(Ports::All(protocol)),
        Some(IntOrString::String(name)) => Some(Ports::Named(protocol, name.clone())),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Some(Ports::Range(protocol, number(*first)?, number(last)?))
        }
    }
}

fn selector(selector: &LabelSelector) -> Selector {
    let equal = selector.match_labels.iter().flatten();
    let equal = equal.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]));
    Selector(equal.chain(selector.match_expressions.iter().flatten().map(requirement)).collect())
}

fn requirement(requirement: &LabelSelectorRequirement) -> Requirement {
    let (key, values) = (requirement.key.clone(), requirement.values.clone().unwrap_or_default());
    match requirement.operator.as_str() {
        "NotIn" => Requirement::NotIn(key, values),
        "Exists" => Requirement::Exists(key),
        "DoesNotExist" => Requirement::Absent(key),
        "In" => Requirement::In(key, values),
        // Matches nothing.
        _ => Requirement::In(key, Vec::new()),
    }
}

/// The pod, if it has a network of its own and has not ended. `addresses` are known otherwise than
/// from its status.
pub(super) fn pod(pod: &Pod, me: &str, addresses: &[IpAddr]) -> Option<PolicyPod> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if spec.host_network == Some(true) || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let mut own = addresses.to_vec();
    if own.is_empty() {
        let listed = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        own.extend(listed.filter_map(|ip| ip.ip.parse::<IpAddr>().ok()));
    }
    if own.is_empty() {
        own.extend(status.and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok()));
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    Some(PolicyPod {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses: own,
        ports: containers.flat_map(ports).collect(),
        here: spec.node_name.as_deref() == Some(me),
        order: 0,
    })
}

fn ports(container: &Container) -> impl Iterator<Item = NamedPort> {
    let named = |port: &ContainerPort| {
        Some(NamedPort {
            name: port.name.clone()?,
            protocol: protocol(port.protocol.as_deref()),
            port: u16::try_from(port.container_port).ok()?,
        })
    };
    container.ports.iter().flatten().filter_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::Protocol;
    use serde_json::json;

    #[test]
    fn every_field_arrives() {
        let given: NetworkPolicy = serde_json::from_value(json!({"metadata": {}, "spec": {
            "podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {},
                {"from": [
                    {"podSelector": {"matchExpressions": [{"key": "k", "operator": "Exists"}]}},
                    {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}},
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}},
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                ], "ports": [
                    {"protocol": "UDP"},
                    {"protocol": "TCP", "port": 80, "endPort": 90},
                    {"protocol": "TCP", "port": "http"},
                ]},
            ],
        }}))
        .unwrap();
        let is = |key: &str, value: &str| Requirement::In(key.into(), vec![value.into()]);
        let pods = |namespaces, pods: Vec<Requirement>| Peer::Pods { namespaces, pods: Selector(pods) };
        let network = |text| network(text).unwrap();
        let peers = vec![
            pods(None, vec![Requirement::Exists("k".into())]),
            pods(Some(Selector::default()), vec![is("a", "b")]),
            pods(Some(Selector(vec![is("kubernetes.io/metadata.name", "x")])), vec![]),
            Peer::Block(IpBlock { network: network("10.0.0.0/8"), except: vec![network("10.1.0.0/16")] }),
        ];
        let ports = vec![
            Ports::All(Protocol::Udp),
            Ports::Range(Protocol::Tcp, 80, 90),
            Ports::Named(Protocol::Tcp, "http".into()),
        ];
        let wanted = Policy {
            pods: Selector(vec![is("app", "db")]),
            ingress: Some(vec![Rule::default(), Rule { peers, ports }]),
            egress: Some(vec![]),
        };
        assert_eq!(policy(&given), Some(wanted));
    }

    #[test]
    fn what_makes_no_sense_allows_nothing() {
        let given: NetworkPolicy = serde_json::from_value(json!({"metadata": {}, "spec": {
            "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{}]},
                {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["nonsense"]}}]},
                {"ports": [{"port": -1}]},
            ],
        }}))
        .unwrap();
        let nobody = Policy { ingress: Some(vec![]), ..Policy::default() };
        assert_eq!(policy(&given), Some(nobody));
    }

    #[test]
    fn pods_count_while_they_run_in_a_network_of_their_own() {
        let made = |spec: serde_json::Value, status: serde_json::Value| {
            let mut whole = json!({"containers": [{"name": "a", "ports": [{"name": "web", "containerPort": 80}, {"containerPort": 81}]}]});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"namespace": "x", "labels": {"a": "b"}}, "spec": whole, "status": status,
            }))
            .unwrap();
            super::pod(&pod, "here", &[])
        };
        let pod =
            made(json!({"nodeName": "here"}), json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}))
                .unwrap();
        assert!(pod.here && pod.addresses.len() == 2);
        assert_eq!(pod.ports, [NamedPort { name: "web".into(), protocol: Protocol::Tcp, port: 80 }]);
        let pod = made(json!({}), json!({"podIP": "10.0.0.1"})).unwrap();
        assert!(!pod.here && pod.addresses.len() == 1);
        assert_eq!(made(json!({"hostNetwork": true}), json!({})), None);
        assert_eq!(made(json!({}), json!({"phase": "Succeeded", "podIP": "10.0.0.1"})), None);
    }
}
