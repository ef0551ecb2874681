//! Samples for the tests.

use super::model::{Balancer, Endpoint, NodeView, Policy, ServiceName, ServicePort, Target, Transport};
use super::table::{Content, Contents, Frontend, Slot};
use super::way::{Pick, Pool, Way};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

pub(super) fn address(net: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(10, net, 0, last).into()
}

pub(super) fn here() -> NodeView {
    NodeView { name: "here".into(), zone: None }
}

pub(super) fn name(number: u8) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("s{number}") }
}

pub(super) fn endpoint(last: u8) -> Endpoint {
    Endpoint::ready(Target { address: address(88, last), port: 8080 })
}

pub(super) fn port(endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort {
        transport: Transport::Tcp,
        port: 80,
        cluster_addresses: vec![address(96, 1)],
        external_addresses: Vec::new(),
        balancer: Balancer::default(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints,
    }
}

/// Elements that need not make sense together.
pub(super) fn contents() -> impl Strategy<Value = Contents> {
    proptest::collection::btree_map(0_u8..42, any::<(u8, bool)>(), 0..16).prop_map(|elements| {
        let mut contents = Contents::new();
        for (place, (what, udp)) in elements {
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let frontend = Frontend { address: address(96, place % 3), transport, port: 80 };
            let target = Target { address: address(88, what % 4), port: 8080 };
            let (slot, content) = match place / 6 {
                0 => {
                    let count = u16::from(what % 3) + 1;
                    let pick =
                        Pick { count, at_node: false, pool: Pool::Cluster, masquerade: false, sticky: 0 };
                    (Slot::Service(frontend), Content::Ways([Way::Pick(pick); 3]))
                }
                1 => (Slot::Endpoint(frontend, u32::from(place % 4)), Content::Target(target)),
                2 => (Slot::Member(frontend, Pool::Cluster, target), Content::Nothing),
                3 => (Slot::Loop(address(88, place)), Content::Nothing),
                4 => (Slot::Balanced(frontend.address), Content::Nothing),
                5 => (Slot::Fence(frontend), Content::Number(u32::from(what))),
                _ => {
                    let first = address(what, 0);
                    (Slot::Source(u32::from(place), first, address(what, 9)), Content::Nothing)
                }
            };
            contents.insert(slot, content);
        }
        contents
    })
}
