//! What a trace is asked for: a pod, and whom it asks. Pure.

use manifests::Kind;
use netstack::{Target, Transport};
use std::net::{IpAddr, SocketAddr};

/// Whom a pod asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An object that has addresses: a Service or a Pod. All its ports, or one by number or name.
    Object {
        /// One of the two.
        kind: Kind,
        namespace: String,
        name: String,
        port: Option<String>,
    },
    /// An address and a port.
    Address(Target),
}

/// A packet to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Of the pod that asks.
    pub(crate) namespace: String,
    /// Of the pod that asks.
    pub(crate) pod: String,
    pub(crate) asked: Asked,
    /// Where the port does not say it.
    pub(crate) transport: Transport,
}

impl Asked {
    /// Reads `svc/NAME[.NAMESPACE][:PORT]`, the same with `pod/`, or `ADDRESS:PORT`; a name alone is a Service's, as it
    /// is in DNS. What has no namespace is of `namespace`.
    ///
    /// # Errors
    /// If it is none of these.
    pub(crate) fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(Target { address: address.ip(), port: address.port() }));
        }
        if text.parse::<IpAddr>().is_ok() {
            let example = if text.contains(':') { format!("[{text}]:80") } else { format!("{text}:80") };
            return Err(format!("at which port? write it behind the address, as {example}"));
        }
        let (kind, rest) = match text.split_once('/') {
            None => (Kind::Service, text),
            Some(("svc" | "service" | "services", rest)) => (Kind::Service, rest),
            Some(("po" | "pod" | "pods", rest)) => (Kind::Pod, rest),
            Some((kind, _)) => {
                return Err(format!("`{kind}` has no address; name svc/NAME, pod/NAME or ADDRESS:PORT"));
            }
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        let (name, namespace) = match name.split_once('.') {
            // What follows is the cluster's domain: `web.default.svc.cluster.local`.
            Some((name, rest)) if kind == Kind::Service => {
                (name, rest.split('.').next().unwrap_or(namespace))
            }
            Some(_) | None => (name, namespace),
        };
        if name.is_empty() || namespace.is_empty() || port.is_some_and(str::is_empty) {
            return Err(format!(
                "`{text}` is not understood; name svc/NAME[:PORT], pod/NAME[:PORT] or ADDRESS:PORT"
            ));
        }
        let port = port.map(ToOwned::to_owned);
        Ok(Self::Object { kind, namespace: namespace.into(), name: name.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, namespace: &str, name: &str, port: Option<&str>) -> Asked {
        Asked::Object { kind, namespace: namespace.into(), name: name.into(), port: port.map(Into::into) }
    }

    #[test]
    fn services_pods_and_addresses_are_told_apart() {
        let read = |text| Asked::parse(text, "x").unwrap();
        assert_eq!(read("web"), object(Kind::Service, "x", "web", None));
        assert_eq!(read("svc/web:http"), object(Kind::Service, "x", "web", Some("http")));
        assert_eq!(read("web.y:80"), object(Kind::Service, "y", "web", Some("80")));
        assert_eq!(read("web.y.svc.cluster.local"), object(Kind::Service, "y", "web", None));
        assert_eq!(read("pod/web-0.1:80"), object(Kind::Pod, "x", "web-0.1", Some("80")));
        let address = |text: &str| IpAddr::from(text.parse::<std::net::Ipv6Addr>().unwrap());
        assert_eq!(read("[fd00::1]:53"), Asked::Address(Target { address: address("fd00::1"), port: 53 }));
    }

    #[test]
    fn what_is_not_understood_is_told_with_what_would_be() {
        let refused = |text| Asked::parse(text, "x").unwrap_err();
        assert!(refused("10.0.0.1").contains("10.0.0.1:80"));
        assert!(refused("fd00::1").contains("[fd00::1]:80"));
        assert!(refused("deploy/web").contains("`deploy` has no address"));
        for text in ["", "svc/", "web:", "svc/.y"] {
            assert!(refused(text).contains("is not understood"), "{text}");
        }
    }
}
