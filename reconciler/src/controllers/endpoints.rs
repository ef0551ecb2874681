//! Service × Pods → EndpointSlices: who answers for a service, and how far it is.

mod slices;
#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome, pod};
use crate::store::{Event, State};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Node, ObjectReference, Pod, Service, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use manifests::selector::labels_match;
use manifests::{Kind, Object, ObjectKey};
use slices::Wanted;
use std::net::IpAddr;

/// On each slice: the service that it is for.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// On each node: its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The keys to look at after `event`.
#[must_use]
pub fn keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    let object = &*event.object;
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind tells who answers")]
    match object.kind() {
        Kind::Service => vec![object.key()],
        Kind::EndpointSlice => {
            let owner = object.controller().filter(|owner| owner.kind == "Service");
            owner
                .map(|owner| ObjectKey::new(Kind::Service, object.namespace(), &*owner.name))
                .into_iter()
                .collect()
        }
        Kind::Node => state.list(Kind::Service, None).map(|service| service.key()).collect(),
        Kind::Pod => of_pod(state, object),
        _ => Vec::new(),
    }
}

/// The services that select it, and those that did until now.
fn of_pod(state: &State, pod: &Object) -> Vec<ObjectKey> {
    let concerns = |object: &&std::sync::Arc<Object>| {
        let Ok(service) = <&Service>::try_from(&***object) else { return false };
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return false;
        };
        labels_match(selector, pod.metadata().labels.as_ref()) || names(state, object, pod)
    };
    let services = state.list(Kind::Service, Some(pod.namespace())).filter(concerns);
    services.map(|service| service.key()).collect()
}

fn names(state: &State, service: &Object, pod: &Object) -> bool {
    let slices =
        state.owned_by(service.uid()).filter_map(|object| <&EndpointSlice>::try_from(&**object).ok());
    let mut references = slices
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter_map(|endpoint| endpoint.target_ref.as_ref());
    references.any(|reference| reference.name.as_deref() == Some(pod.name()))
}

/// The slices of the service `key` tell who answers for it. A service without selector is left to
/// whoever writes its slices; those of one that is gone go with it.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(object) = state.get(key) else { return outcome };
    let Ok(service) = <&Service>::try_from(object.as_ref()) else { return outcome };
    let Some(spec) = &service.spec else { return outcome };
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    let (Some(selector), None) = (selector, &service.metadata.deletion_timestamp) else { return outcome };
    if spec.type_.as_deref() == Some("ExternalName") {
        return outcome;
    }
    let mut wanted = Wanted::default();
    for family in families(spec) {
        let mut any = false;
        for object in state.list(Kind::Pod, Some(&key.namespace)) {
            let Ok(pod) = <&Pod>::try_from(object.as_ref()) else { continue };
            if !labels_match(selector, pod.metadata.labels.as_ref()) || pod::is_finished(pod) {
                continue;
            }
            let Some(address) = address(pod, &family) else { continue };
            any = true;
            wanted.add(&family, ports(spec, pod), endpoint(state, (key, spec), pod, address));
        }
        if !any {
            wanted.add_empty(&family);
        }
    }
    wanted.write(state, object, context, &mut outcome);
    outcome
}

/// Those of its addresses; of a service that has none yet, those that it asks for.
fn families(spec: &ServiceSpec) -> Vec<String> {
    match &spec.ip_families {
        Some(families) if !families.is_empty() => families.clone(),
        _ => vec!["IPv4".into()],
    }
}

/// The pod's address of `family`, if it has one.
fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    let is_wanted = |text: &&String| match text.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    all.into_iter().find(is_wanted).cloned()
}

/// The service's ports as they are at `pod`; what it does not have is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(number)) if *number == 0 => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named_port(pod, name, protocol),
        };
        if let Some(number) = number {
            ports.push(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol.to_owned()),
                app_protocol: port.app_protocol.clone(),
            });
        }
    }
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let mut ports =
        spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let is_wanted = |port: &&ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.find(is_wanted).map(|port| port.container_port)
}

fn endpoint(
    state: &State,
    (service, spec): (&ObjectKey, &ServiceSpec),
    pod: &Pod,
    address: String,
) -> Endpoint {
    let serving = pod::is_ready(pod);
    let terminating = pod::is_deleted(pod);
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let node = Some(pod::node_name(pod).to_owned()).filter(|node| !node.is_empty());
    let zone = node.as_ref().and_then(|node| zone(state, node));
    let hints = hints(spec, node.as_deref(), zone.as_deref()).filter(|_| ready);
    let inner = pod.spec.as_ref();
    let of_service = inner.and_then(|spec| spec.subdomain.as_deref()) == Some(service.name.as_str());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: inner.and_then(|spec| spec.hostname.clone()).filter(|_| of_service),
        node_name: node,
        zone,
        hints,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(service.namespace.clone()),
            name: Some(pod::name(pod).to_owned()),
            uid: Some(pod::uid(pod).to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn zone(state: &State, node: &str) -> Option<String> {
    let object = state.get(&ObjectKey::new(Kind::Node, "", node))?;
    let node = <&Node>::try_from(object.as_ref()).ok()?;
    node.metadata.labels.as_ref()?.get(ZONE_LABEL).cloned()
}

/// For whom it is, if the service asks for traffic that stays near.
fn hints(spec: &ServiceSpec, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let near_node = match spec.traffic_distribution.as_deref()? {
        "PreferSameNode" => true,
        "PreferSameZone" | "PreferClose" => false,
        _ => return None,
    };
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.filter(|_| near_node).map(|node| vec![ForNode { name: node.to_owned() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}
