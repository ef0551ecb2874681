//! The records of one service. Pure.

use super::Datum;
use crate::dns::code::{CNAME, SRV};
use crate::dns::model::{NamedEndpoint, NamedPort, ServiceNames};
use crate::dns::name::{Name, before};
use crate::services::{ServiceName, Transport};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of all SRV records: any is as good as the others.
const PRIORITY: u16 = 0;
/// Of all SRV records.
const WEIGHT: u16 = 100;

/// What a service adds to the zone.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// By the labels in front of the zone's origin.
    pub(super) records: Vec<(Box<[u8]>, Datum)>,
    pub(super) reverse: Vec<(IpAddr, Name)>,
}

struct Maker<'a> {
    origin: &'a Name,
    service: Name,
    made: Made,
}

/// The records of `service`. Names that are none are left out: they cannot be asked for.
pub(super) fn records(origin: &Name, service: &ServiceName, names: &ServiceNames) -> Made {
    let labels = [service.name.as_str(), service.namespace.as_str(), "svc"];
    let Some(whole) = Name::joined(&labels, origin.wire()) else { return Made::default() };
    let mut maker = Maker { origin, service: whole.clone(), made: Made::default() };
    match names {
        ServiceNames::Cluster { addresses, ports } => {
            for address in addresses {
                maker.add(&whole, Datum::address(*address));
                maker.made.reverse.push((*address, whole.clone()));
            }
            ports.iter().for_each(|port| maker.add_port(port, &whole));
        }
        ServiceNames::Headless(endpoints) => maker.add_endpoints(endpoints),
        ServiceNames::External(name) => {
            if let Some(name) = Name::parse(name) {
                maker.add(&whole, Datum::name(CNAME, name));
            }
        }
    }
    maker.made
}

impl Maker<'_> {
    fn add(&mut self, name: &Name, datum: Datum) {
        if let Some(labels) = before(name.wire(), self.origin.wire()) {
            self.made.records.push((labels.into(), datum));
        }
    }

    /// `_port._protocol` below the service leads to `target`.
    fn add_port(&mut self, port: &NamedPort, target: &Name) {
        let transport = match port.transport {
            Transport::Tcp => "_tcp",
            Transport::Udp => "_udp",
        };
        let Some(name) = Name::joined(&[&format!("_{}", port.name), transport], self.service.wire()) else {
            return;
        };
        let mut data = Vec::with_capacity(6 + target.wire().len());
        for number in [PRIORITY, WEIGHT, port.number] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        data.extend_from_slice(target.wire());
        self.add(&name, Datum { kind: SRV, data: data.into() });
    }

    fn add_endpoints(&mut self, endpoints: &[NamedEndpoint]) {
        let whole = self.service.clone();
        let mut addresses = BTreeSet::new();
        let mut led = BTreeSet::new();
        for endpoint in endpoints {
            let dashed = dashed(endpoint.address);
            let own = endpoint.hostname.as_deref().unwrap_or(&dashed);
            let Some(name) = Name::joined(&[own], whole.wire()) else { continue };
            // The same one may be in several slices, each with other ports.
            if addresses.insert((endpoint.address, name.clone())) {
                self.add(&whole, Datum::address(endpoint.address));
                self.add(&name, Datum::address(endpoint.address));
                if endpoint.hostname.is_some() {
                    self.made.reverse.push((endpoint.address, name.clone()));
                }
            }
            for port in &endpoint.ports {
                // Two families of one pod have one name.
                if led.insert((port.name.clone(), port.transport, port.number, name.clone())) {
                    self.add_port(port, &name);
                }
            }
        }
    }
}

/// An address as a label.
pub(super) fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        // At an end of a label there may be no dash.
        IpAddr::V6(address) => {
            let words = address.segments().map(|word| format!("{word:x}"));
            words.join("-")
        }
    }
}

/// The address that a label stands for: of IPv6 also shortened, as people write it.
pub(super) fn undashed(label: &str) -> Option<IpAddr> {
    let four = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    four.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}
