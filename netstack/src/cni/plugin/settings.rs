//! What the plugin is told of its network. Pure.

use crate::cni::failure::{Failure, code};
use crate::cni::list::{Fields, is_name};
use crate::cni::outcome::Outcome;
use crate::cni::version::SpecVersion;
use crate::network::{HostPort, Protocol, Rates};
use crate::subnet::PodCidrs;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// The bridge, if none is named.
const BRIDGE: &str = "keel-cni0";

/// The network of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Of the specification.
    pub version: SpecVersion,
    /// The bridge, which is made if there is none.
    pub bridge: String,
    /// Whose addresses containers get.
    pub networks: PodCidrs,
    /// Largest packet in bytes; 0 takes the kernel's.
    pub mtu: u32,
    /// The world sees the node.
    pub masquerade: bool,
    /// How fast the container may be.
    pub rates: Rates,
    /// Passed on.
    pub dns: Fields,
    /// Of ADD.
    pub previous: Option<Outcome>,
    /// Containers with their interfaces, for GC.
    pub valid: Vec<(String, String)>,
    ports: Vec<PortMapping>,
}

/// Why a configuration cannot be right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {message}")]
pub struct SettingsError {
    field: &'static str,
    message: String,
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(code::INVALID_CONFIGURATION, error.to_string())
    }
}

/// Fields as they are written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: String,
    bridge: Option<String>,
    subnet: Option<String>,
    #[serde(default)]
    subnets: Vec<String>,
    #[serde(default)]
    ranges: Vec<Vec<Range>>,
    ipam: Option<Ipam>,
    #[serde(default)]
    mtu: u32,
    ip_masq: Option<bool>,
    is_gateway: Option<bool>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    dns: Fields,
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<Valid>,
}

#[derive(Debug, Deserialize)]
struct Range {
    subnet: String,
}

/// Of other plugins: only its ranges can be taken over.
#[derive(Debug, Deserialize)]
struct Ipam {
    #[serde(default, rename = "type")]
    kind: String,
    subnet: Option<String>,
    #[serde(default)]
    ranges: Vec<Vec<Range>>,
}

#[derive(Debug, Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Vec<PortMapping>,
    bandwidth: Option<Bandwidth>,
}

/// A port of the node, in the words of the `portMappings` capability.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortMapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// In bits per second; what may go at once is our own to say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bandwidth {
    #[serde(default)]
    ingress_rate: u64,
    #[serde(default)]
    egress_rate: u64,
}

fn wrong(field: &'static str, message: impl Into<String>) -> Failure {
    SettingsError { field, message: message.into() }.into()
}

impl Settings {
    /// The version that is spoken, if `text` says one that is known.
    #[must_use]
    pub fn version(text: &[u8]) -> Option<SpecVersion> {
        let fields: Value = serde_json::from_slice(text).ok()?;
        SpecVersion::parse(fields.get("cniVersion")?.as_str()?)
    }

    /// The settings in `text`.
    ///
    /// # Errors
    /// As the specification has them: which field is wrong, and what would be right.
    pub fn parse(text: &[u8]) -> Result<Self, Failure> {
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            Failure::new(code::DECODING, format!("cannot understand standard input: {error}"))
        })?;
        let version = SpecVersion::parse(&written.cni_version).ok_or_else(|| {
            let names = SpecVersion::names();
            Failure::new(
                code::INCOMPATIBLE_VERSION,
                format!("cniVersion {:?} is none of {names}", written.cni_version),
            )
        })?;
        if !is_name(&written.name) {
            return Err(wrong("name", format!("{:?} is no name of a network", written.name)));
        }
        if written.is_gateway == Some(false) {
            return Err(wrong("isGateway", "the bridge is always the gateway: leave it out, or say true"));
        }
        let networks = networks(&written)?;
        let previous = written.prev_result.as_ref().map(|result| Outcome::parse(result, version)).transpose();
        let previous = previous.map_err(|error| wrong("prevResult", error.to_string()))?;
        let bridge = written.bridge.unwrap_or_else(|| BRIDGE.to_owned());
        let names = crate::names::check_bridge(&bridge);
        names.map_err(|reason| wrong("bridge", format!("{bridge:?} {reason}")))?;
        let rate = |rate: u64| Some(rate).filter(|rate| *rate > 0);
        let bandwidth = written.runtime_config.bandwidth.as_ref();
        let rates = Rates {
            ingress: bandwidth.and_then(|bandwidth| rate(bandwidth.ingress_rate)),
            egress: bandwidth.and_then(|bandwidth| rate(bandwidth.egress_rate)),
        };
        let ports = written.runtime_config.port_mappings;
        ports.iter().try_for_each(PortMapping::check)?;
        let valid = written.valid.into_iter().map(|valid| (valid.container, valid.ifname)).collect();
        let masquerade = written.ip_masq.unwrap_or(true);
        Ok(Self {
            version,
            bridge,
            networks,
            mtu: written.mtu,
            masquerade,
            rates,
            dns: written.dns,
            previous,
            valid,
            ports,
        })
    }

    /// The ports of the node that lead to these addresses of the container.
    #[must_use]
    pub fn ports_of(&self, addresses: &[IpAddr]) -> Vec<HostPort> {
        self.ports.iter().flat_map(|port| port.to(addresses)).collect()
    }
}

/// Wherever they are written.
fn networks(written: &Written) -> Result<PodCidrs, Failure> {
    if let Some(ipam) = written.ipam.as_ref().filter(|ipam| !matches!(ipam.kind.as_str(), "" | "keel")) {
        let message =
            format!("{:?} is not called: addresses are this plugin's own business, leave it out", ipam.kind);
        return Err(wrong("ipam.type", message));
    }
    let ranges =
        |ranges: &[Vec<Range>]| ranges.iter().flatten().map(|range| range.subnet.clone()).collect::<Vec<_>>();
    let mut all: Vec<String> = written.subnet.iter().cloned().collect();
    all.extend(written.subnets.iter().cloned());
    all.extend(ranges(&written.ranges));
    if let Some(ipam) = &written.ipam {
        all.extend(ipam.subnet.clone());
        all.extend(ranges(&ipam.ranges));
    }
    if all.is_empty() {
        let message = "the containers' networks are missing: [\"10.89.0.0/24\"], or one of each family";
        return Err(wrong("subnets", message));
    }
    all.join(",").parse().map_err(|error: crate::cidr::CidrError| wrong("subnets", error.to_string()))
}

impl PortMapping {
    fn protocol(&self) -> Option<Protocol> {
        match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let field = "runtimeConfig.portMappings";
        if self.protocol().is_none() {
            return Err(wrong(field, format!("{:?} is none of tcp, udp and sctp", self.protocol)));
        }
        if self.host_port == 0 || self.container_port == 0 {
            return Err(wrong(field, "ports are numbers from 1 to 65535"));
        }
        if !self.host_ip.is_empty() && self.host_ip.parse::<IpAddr>().is_err() {
            return Err(wrong(field, format!("{:?} is no address", self.host_ip)));
        }
        Ok(())
    }

    fn to(&self, addresses: &[IpAddr]) -> Vec<HostPort> {
        let host: Option<IpAddr> = self.host_ip.parse().ok();
        let fits = |address: &&IpAddr| host.is_none_or(|host| host.is_ipv4() == address.is_ipv4());
        let one = |pod_address: &IpAddr| {
            Some(HostPort {
                protocol: self.protocol()?,
                host_address: host.filter(|host| !host.is_unspecified()),
                host_port: self.host_port,
                pod_address: *pod_address,
                pod_port: self.container_port,
            })
        };
        addresses.iter().filter(fits).filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text.as_bytes()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_network_needs_little() {
        let settings =
            parse(r#"{"cniVersion": "1.1.0", "name": "keel", "type": "keel", "subnet": "10.89.0.0/24"}"#)
                .unwrap();
        assert_eq!((settings.bridge.as_str(), settings.masquerade, settings.mtu), ("keel-cni0", true, 0));
        assert_eq!(settings.networks.to_string(), "10.89.0.0/24");
        let settings = parse(
            r#"{"cniVersion": "0.4.0", "name": "keel", "bridge": "br7", "ipMasq": false, "mtu": 1400,
            "ipam": {"ranges": [[{"subnet": "10.89.0.0/24"}], [{"subnet": "fd89::/64"}]]},
            "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"},
              {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"}],
              "bandwidth": {"ingressRate": 1000000, "ingressBurst": 5}}}"#,
        )
        .unwrap();
        assert_eq!((settings.version, settings.rates.ingress), (SpecVersion::V0_4_0, Some(1_000_000)));
        let addresses: [IpAddr; 2] = ["10.89.0.2".parse().unwrap(), "fd89::2".parse().unwrap()];
        let ports = settings.ports_of(&addresses);
        let ends: Vec<_> = ports.iter().map(|port| (port.host_port, port.pod_address)).collect();
        assert_eq!(ends, [(8080, addresses[0]), (8080, addresses[1]), (53, addresses[1])]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_code() {
        for (text, message) in [
            (
                "{",
                "cannot understand standard input: EOF while parsing an object at line 1 column 1 (code 6)",
            ),
            (r#"{"cniVersion": "3.0.0", "name": "a"}"#, "cniVersion \"3.0.0\" is none of 0.1.0,"),
            (r#"{"name": "a b", "subnet": "10.0.0.0/24"}"#, "name: \"a b\" is no name of a network (code 7)"),
            (r#"{"name": "a"}"#, "subnets: the containers' networks are missing"),
            (r#"{"name": "a", "subnet": "10.0.0.1/24"}"#, "subnets: "),
            (r#"{"name": "a", "ipam": {"type": "host-local"}}"#, "ipam.type: \"host-local\" is not called"),
            (r#"{"name": "a", "subnet": "10.0.0.0/24", "bridge": "a/b"}"#, "bridge: \"a/b\" must be"),
            (
                r#"{"name": "a", "subnet": "10.0.0.0/24", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "x"}]}}"#,
                "runtimeConfig.portMappings: \"x\" is none of tcp",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Settings::parse(&bytes), Settings::version(&bytes));
        }
    }
}
