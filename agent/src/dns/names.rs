//! A Service and its EndpointSlices → its names. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netstack::{NamedEndpoint, NamedPort, ServiceNames, Transport};

/// The names of a service; nothing while it has no address.
pub(super) fn names(service: &Service, slices: &[&EndpointSlice]) -> Option<ServiceNames> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(ServiceNames::External(spec.external_name.clone()?));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(ServiceNames::Headless(slices.iter().flat_map(|slice| endpoints(slice)).collect()));
    }
    let listed = spec.cluster_ips.iter().flatten().filter_map(|text| text.parse().ok());
    let mut addresses: Vec<_> = listed.collect();
    if addresses.is_empty() {
        addresses.push(spec.cluster_ip.as_ref()?.parse().ok()?);
    }
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| named(port.name.as_deref(), port.protocol.as_deref(), Some(port.port)));
    Some(ServiceNames::Cluster { addresses, ports: ports.collect() })
}

/// Those who are ready, which the pods of some services always are.
fn endpoints(slice: &EndpointSlice) -> Vec<NamedEndpoint> {
    let ports = slice.ports.iter().flatten();
    let ports = ports.filter_map(|port| named(port.name.as_deref(), port.protocol.as_deref(), port.port));
    let ports: Vec<NamedPort> = ports.collect();
    let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // What is not said is as the API reference says it is meant.
        let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let address = endpoint.addresses.first().filter(|_| is_ready)?.parse().ok()?;
        let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
        Some(NamedEndpoint { address, hostname, ports: ports.clone() })
    });
    endpoints.collect()
}

fn named(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<NamedPort> {
    let transport = match protocol.unwrap_or("TCP") {
        "TCP" => Transport::Tcp,
        "UDP" => Transport::Udp,
        _ => return None,
    };
    let name = name.filter(|name| !name.is_empty())?.to_owned();
    Some(NamedPort { name, transport, number: u16::try_from(number?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(spec: &Value, slices: &[Value]) -> Option<ServiceNames> {
        let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let slices: Vec<EndpointSlice> =
            slices.iter().map(|slice| serde_json::from_value(slice.clone()).unwrap()).collect();
        names(&service, &slices.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_service_with_an_address_has_it_and_its_named_ports() {
        let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 80}]);
        let found = of(
            &json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd96::1"], "ports": ports}),
            &[],
        );
        let port = NamedPort { name: "dns".into(), transport: Transport::Udp, number: 53 };
        let addresses = vec!["10.96.0.1".parse().unwrap(), "fd96::1".parse().unwrap()];
        assert_eq!(found, Some(ServiceNames::Cluster { addresses, ports: vec![port] }));
        assert_eq!(of(&json!({"ports": [{"port": 80}]}), &[]), None, "it gets one");
    }

    #[test]
    fn a_service_without_has_its_ready_endpoints() {
        let slice = json!({
            "metadata": {}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"port": 9}],
            "endpoints": [
                {"addresses": ["10.88.0.2"], "hostname": "web-0"},
                {"addresses": ["10.88.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.88.0.4"], "conditions": {"ready": true}},
            ],
        });
        let port = NamedPort { name: "http".into(), transport: Transport::Tcp, number: 8080 };
        let endpoint = |address: &str, hostname: Option<&str>| NamedEndpoint {
            address: address.parse().unwrap(),
            hostname: hostname.map(Into::into),
            ports: vec![port.clone()],
        };
        let wanted = vec![endpoint("10.88.0.2", Some("web-0")), endpoint("10.88.0.4", None)];
        assert_eq!(of(&json!({"clusterIP": "None"}), &[slice]), Some(ServiceNames::Headless(wanted)));
    }

    #[test]
    fn another_name_may_stand_for_a_service() {
        let spec = json!({"type": "ExternalName", "externalName": "db.example.com"});
        assert_eq!(of(&spec, &[]), Some(ServiceNames::External("db.example.com".into())));
    }
}
