//! What a plugin has made, in the words of each version. Pure.

use super::list::Fields;
use super::version::SpecVersion;
use crate::services::Family;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What ADD has made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// On the host and in the pod.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// With all of their fields.
    pub routes: Vec<Fields>,
    /// With all of its fields.
    pub dns: Fields,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, or nothing.
    pub mac: String,
    /// Where it is; nothing for the host's.
    pub sandbox: String,
    /// What else is said of it.
    pub more: Fields,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// The default route.
    pub gateway: Option<IpAddr>,
    /// Which interface has it.
    pub interface: Option<usize>,
}

/// Why something is no result.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct OutcomeError(String);

fn wrong(message: impl Into<String>) -> OutcomeError {
    OutcomeError(message.into())
}

fn text(fields: &Fields, key: &str) -> String {
    fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn objects(fields: &Fields, key: &str) -> Result<Vec<Fields>, OutcomeError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => {
            let one = |value: &Value| value.as_object().cloned();
            let all: Option<Vec<_>> = all.iter().map(one).collect();
            all.ok_or_else(|| wrong(format!("`{key}` holds something that is no object")))
        }
        Some(_) => Err(wrong(format!("`{key}` is no list"))),
    }
}

impl Outcome {
    /// The result in `value`, which is of its own `cniVersion`, or of `asked` if it has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(value: &Value, asked: SpecVersion) -> Result<Self, OutcomeError> {
        let fields = value.as_object().ok_or_else(|| wrong("it is no object"))?;
        let version = match fields.get("cniVersion").and_then(Value::as_str).filter(|text| !text.is_empty()) {
            Some(text) => SpecVersion::parse(text)
                .ok_or_else(|| wrong(format!("its cniVersion {text:?} is not known")))?,
            None => asked,
        };
        let dns = fields.get("dns").and_then(Value::as_object).cloned().unwrap_or_default();
        if version < SpecVersion::V0_3_0 {
            return Self::of_old(fields, dns);
        }
        let interfaces = objects(fields, "interfaces")?.into_iter().map(Interface::of).collect::<Vec<_>>();
        let ips = objects(fields, "ips")?;
        let ips = ips.iter().map(|ip| Ip::of(ip, "address")).collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = ips.iter().filter_map(|ip| ip.interface).find(|at| *at >= interfaces.len()) {
            return Err(wrong(format!(
                "an address belongs to interface {at}, and there are {}",
                interfaces.len()
            )));
        }
        Ok(Self { interfaces, ips, routes: objects(fields, "routes")?, dns })
    }

    /// One address of each family, without interfaces.
    fn of_old(fields: &Fields, dns: Fields) -> Result<Self, OutcomeError> {
        let mut outcome = Self { dns, ..Self::default() };
        for key in ["ip4", "ip6"] {
            let Some(part) = fields.get(key).filter(|part| !part.is_null()) else { continue };
            let part = part.as_object().ok_or_else(|| wrong(format!("`{key}` is no object")))?;
            outcome.ips.push(Ip::of(part, "ip")?);
            outcome.routes.extend(objects(part, "routes")?);
        }
        Ok(outcome)
    }

    /// The same in the words of `version`.
    #[must_use]
    pub fn print(&self, version: SpecVersion) -> Value {
        let mut printed = json!({"cniVersion": version.name()});
        if version < SpecVersion::V0_3_0 {
            for (key, family) in [("ip4", Family::V4), ("ip6", Family::V6)] {
                let Some(ip) = self.ips.iter().find(|ip| Family::of(ip.address) == family) else { continue };
                let of_family = |route: &&Fields| text(route, "dst").contains(':') == (family == Family::V6);
                let routes: Vec<_> = self.routes.iter().filter(of_family).collect();
                printed[key] = json!({"ip": ip.network(), "routes": routes});
                if let Some(gateway) = ip.gateway {
                    printed[key]["gateway"] = gateway.to_string().into();
                }
            }
        } else {
            printed["interfaces"] = self.interfaces.iter().map(Interface::print).collect();
            printed["ips"] = self.ips.iter().map(|ip| ip.print(version)).collect();
            printed["routes"] = self.routes.iter().cloned().map(Value::Object).collect();
        }
        if !self.dns.is_empty() || version < SpecVersion::V1_0_0 {
            printed["dns"] = Value::Object(self.dns.clone());
        }
        printed
    }

    /// The pod's own addresses, at most one of each family, the main one first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let inside = |ip: &&Ip| {
            ip.interface
                .and_then(|at| self.interfaces.get(at))
                .is_none_or(|interface| !interface.sandbox.is_empty())
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for ip in self.ips.iter().filter(inside) {
            if !addresses.iter().any(|known| known.is_ipv4() == ip.address.is_ipv4()) {
                addresses.push(ip.address);
            }
        }
        addresses
    }
}

impl Interface {
    fn of(mut fields: Fields) -> Self {
        let (name, mac, sandbox) = (text(&fields, "name"), text(&fields, "mac"), text(&fields, "sandbox"));
        fields.retain(|key, _| !matches!(key.as_str(), "name" | "mac" | "sandbox"));
        Self { name, mac, sandbox, more: fields }
    }

    fn print(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("name".into(), self.name.clone().into());
        for (key, value) in [("mac", &self.mac), ("sandbox", &self.sandbox)] {
            if !value.is_empty() {
                fields.insert(key.into(), value.clone().into());
            }
        }
        fields.extend(self.more.clone());
        Value::Object(fields)
    }
}

impl Ip {
    fn of(fields: &Fields, key: &str) -> Result<Self, OutcomeError> {
        let written = text(fields, key);
        let parts = written.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            Some((address, prefix.parse::<u8>().ok().filter(|prefix| *prefix <= bits)?))
        });
        let (address, prefix) =
            parts.ok_or_else(|| wrong(format!("{written:?} is no address with a prefix")))?;
        let gateway = text(fields, "gateway");
        let gateway = if gateway.is_empty() {
            None
        } else {
            Some(gateway.parse().map_err(|_| wrong(format!("the gateway {gateway:?} is no address")))?)
        };
        let interface =
            fields.get("interface").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
        Ok(Self { address, prefix, gateway, interface })
    }

    fn network(&self) -> String {
        format!("{}/{}", self.address, self.prefix)
    }

    fn print(&self, version: SpecVersion) -> Value {
        let mut printed = json!({"address": self.network()});
        if version < SpecVersion::V1_0_0 {
            printed["version"] = if self.address.is_ipv4() { "4" } else { "6" }.into();
        }
        if let Some(gateway) = self.gateway {
            printed["gateway"] = gateway.to_string().into();
        }
        if let Some(interface) = self.interface {
            printed["interface"] = interface.into();
        }
        printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both() -> Outcome {
        let ip = |address: &str, prefix, gateway: &str| Ip {
            address: address.parse().unwrap(),
            prefix,
            gateway: Some(gateway.parse().unwrap()),
            interface: Some(1),
        };
        let route = json!({"dst": "0.0.0.0/0"}).as_object().unwrap().clone();
        Outcome {
            interfaces: vec![
                Interface { name: "br0".into(), mac: "0a:58:0a:01:00:01".into(), ..Interface::default() },
                Interface { name: "eth0".into(), sandbox: "/run/netns/a".into(), ..Interface::default() },
            ],
            ips: vec![ip("10.1.0.5", 16, "10.1.0.1"), ip("fd00::5", 64, "fd00::1")],
            routes: vec![route],
            dns: Fields::new(),
        }
    }

    #[test]
    fn what_is_printed_is_read_again_in_each_version() {
        for version in SpecVersion::ALL {
            let again = Outcome::parse(&both().print(version), SpecVersion::V1_1_0).unwrap();
            assert_eq!(again.addresses(), both().addresses(), "{version}");
            assert_eq!(again.routes, both().routes, "{version}");
            if version >= SpecVersion::V0_3_0 {
                assert_eq!(again, both(), "{version}");
            }
        }
        let old = both().print(SpecVersion::V0_2_0);
        assert_eq!((&old["ip4"]["ip"], &old["ip6"]["gateway"]), (&json!("10.1.0.5/16"), &json!("fd00::1")));
        assert_eq!(both().print(SpecVersion::V0_4_0)["ips"][1]["version"], "6");
        assert!(both().print(SpecVersion::V1_0_0)["ips"][1].get("version").is_none());
    }

    #[test]
    fn only_addresses_inside_are_the_pods_and_one_of_each_family() {
        let value = json!({"cniVersion": "1.0.0",
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "10.1.0.1/16", "interface": 0}, {"address": "10.1.0.5/16", "interface": 1},
                    {"address": "10.2.0.5/16", "interface": 1}, {"address": "fd00::5/64"}]});
        let outcome = Outcome::parse(&value, SpecVersion::V1_0_0).unwrap();
        let texts: Vec<_> = outcome.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.1.0.5", "fd00::5"]);
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for (value, message) in [
            (json!([]), "it is no object"),
            (json!({"ips": 7}), "`ips` is no list"),
            (json!({"ips": [{"address": "10.1.0.5"}]}), "\"10.1.0.5\" is no address with a prefix"),
            (json!({"ips": [{"address": "10.1.0.5/33"}]}), "\"10.1.0.5/33\" is no address with a prefix"),
            (
                json!({"ips": [{"address": "10.1.0.5/8", "interface": 3}]}),
                "an address belongs to interface 3, and there are 0",
            ),
            (json!({"cniVersion": "7"}), "its cniVersion \"7\" is not known"),
        ] {
            assert_eq!(Outcome::parse(&value, SpecVersion::V1_0_0).unwrap_err().to_string(), message);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "(10\\.1\\.0\\.5/16|::1/200|fd00::1|1\\.0\\.0|0\\.2\\.0|.{0,6})".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let key = "(ips|ip4|interfaces|address|ip|interface|routes|dns|cniVersion|gateway|name|sandbox)";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_plugin_answers_is_read_or_refused(value in any_value()) {
            if let Ok(outcome) = Outcome::parse(&value, SpecVersion::V1_1_0) {
                let again = Outcome::parse(&outcome.print(SpecVersion::V1_1_0), SpecVersion::V1_1_0).unwrap();
                prop_assert_eq!(again, outcome);
            }
        }
    }
}
