//! NetworkPolicies and EndpointSlices.

use super::{probe, selector};
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::IpAddr;

pub(super) fn policy(spec: &NetworkPolicySpec, at: &Path<'_>, report: &mut Report<'_>) {
    if let Some(pods) = &spec.pod_selector {
        selector::check(pods, &at.field("podSelector"), report);
    }
    let types = at.field("policyTypes");
    for (index, word) in spec.policy_types.iter().flatten().enumerate() {
        report.one_of(&types.index(index), Some(word), &["Ingress", "Egress"]);
    }
    let list = at.field("ingress");
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = list.index(index);
        peers(rule.from.as_deref(), &at.field("from"), report);
        ports(rule.ports.as_deref(), &at.field("ports"), report);
    }
    let list = at.field("egress");
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let at = list.index(index);
        peers(rule.to.as_deref(), &at.field("to"), report);
        ports(rule.ports.as_deref(), &at.field("ports"), report);
    }
}

fn peers(peers: Option<&[NetworkPolicyPeer]>, list: &Path<'_>, report: &mut Report<'_>) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (&peer.ip_block, selects) {
            (None, false) => report.error(
                &at,
                "missing-field",
                "a peer needs `podSelector`, `namespaceSelector` or `ipBlock`",
            ),
            (Some(_), true) => report.error(&at.field("ipBlock"), "not-allowed", "ipBlock stands alone"),
            (Some(block), false) => ip_block(block, &at.field("ipBlock"), report),
            (None, true) => {}
        }
        if let Some(pods) = &peer.pod_selector {
            selector::check(pods, &at.field("podSelector"), report);
        }
        if let Some(namespaces) = &peer.namespace_selector {
            selector::check(namespaces, &at.field("namespaceSelector"), report);
        }
    }
}

fn ip_block(block: &IPBlock, at: &Path<'_>, report: &mut Report<'_>) {
    let Some(whole) = cidr(&block.cidr, &at.field("cidr"), report) else { return };
    let list = at.field("except");
    for (index, except) in block.except.iter().flatten().enumerate() {
        let Some(part) = cidr(except, &list.index(index), report) else { continue };
        if !contains(whole, part) {
            let message = format!("`{except}` is not a part of `{}`", block.cidr);
            report.error(&list.index(index), "out-of-range", message);
        }
    }
}

/// Address and length of `text`, or an error.
fn cidr(text: &str, at: &Path<'_>, report: &mut Report<'_>) -> Option<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
    });
    if parsed.is_none() {
        let help = Some("write it like `10.0.0.0/8`".to_owned());
        report.error_with(at, "bad-address", format!("`{text}` is no CIDR"), help);
    }
    parsed
}

fn contains((whole, length): (IpAddr, u8), (part, part_length): (IpAddr, u8)) -> bool {
    if part_length <= length {
        return false;
    }
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
    whole.is_ipv4() == part.is_ipv4() && bits(whole) & mask == bits(part) & mask
}

fn ports(ports: Option<&[NetworkPolicyPort]>, list: &Path<'_>, report: &mut Report<'_>) {
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        report.one_of(&at.field("protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
        if let Some(number) = &port.port {
            probe::port(number, &at.field("port"), report);
        }
        let Some(end) = port.end_port else { continue };
        match &port.port {
            Some(IntOrString::Int(first)) => {
                report.between(&at.field("endPort"), Some(end), i64::from(*first), 65_535);
            }
            _ => report.error(&at.field("endPort"), "not-allowed", "`endPort` needs a numeric `port`"),
        }
    }
}

pub(super) fn endpoint_slice(slice: &EndpointSlice, report: &mut Report<'_>) {
    let kind = Path::ROOT.field("addressType");
    report.one_of(&kind, Some(&slice.address_type), &["IPv4", "IPv6", "FQDN"]);
    let list = Path::ROOT.field("endpoints");
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        let at = list.index(index);
        let addresses = at.field("addresses");
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let right = match slice.address_type.as_str() {
                "IPv4" => address.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !right {
                let message = format!("`{address}` is no {} address", slice.address_type);
                report.error(&addresses.index(index), "bad-address", message);
            }
        }
    }
}
