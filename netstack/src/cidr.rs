//! The IPv4 network that a node's pods share.

use crate::subnet::Subnet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Shortest and longest prefix that make sense for the pods of one node: a /30
/// holds the bridge and one pod.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// An IPv4 network in canonical form: no bit is set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is no network for pods.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CidrError {
    /// Not of the form `ADDRESS/PREFIX`, or one of the two is none.
    #[error("{0:?} is no IPv4 network such as 10.88.0.0/16")]
    Syntax(String),
    /// Bits are set behind the prefix.
    #[error("{given} is an address inside a network; the network is {network}")]
    HostBits {
        /// As it was written.
        given: String,
        /// What was probably meant.
        network: Cidr,
    },
    /// Too many or too few addresses.
    #[error("{given} has a prefix of {prefix} bits; pods need one from 8 to 30")]
    Prefix {
        /// As it was written.
        given: String,
        /// Its prefix.
        prefix: u8,
    },
    /// Not of the form `ADDRESS/PREFIX`, or no network, of either family.
    #[error("{0:?} is no network such as 10.88.0.0/16 or fd00:88::/64")]
    Subnet(String),
    /// Pods have an address of each.
    #[error("{narrow} has fewer addresses than {wide}; pods have one of each")]
    Narrow {
        /// Of IPv4.
        wide: Cidr,
        /// Of IPv6.
        narrow: Subnet,
    },
    /// The kernel routes no such addresses between hosts.
    #[error("{0} is not for hosts: it is reserved for loopback, multicast or nothing")]
    Reserved(Cidr),
}

impl Cidr {
    /// The network of `prefix` bits, at most 32, that `address` is in.
    pub(crate) fn containing(address: Ipv4Addr, prefix: u8) -> Self {
        Self { network: Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix }
    }

    /// The network's own, lowest address.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Length of the prefix in bits, 8 to 30 if it was parsed.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first host address; the bridge has it.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 1)
    }

    /// The highest address, which no host may have.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !mask(self.prefix))
    }

    /// Whether `address` lies within.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::containing(address, self.prefix) == self
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.into());
        let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
        let address: Ipv4Addr = address.parse().map_err(|_| syntax())?;
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|bits| digits && *bits <= 32).ok_or_else(syntax)?;
        if !PREFIXES.contains(&prefix) {
            return Err(CidrError::Prefix { given: text.into(), prefix });
        }
        let network = Self::containing(address, prefix);
        if network.network != address {
            return Err(CidrError::HostBits { given: text.into(), network });
        }
        match address.octets()[0] {
            0 | 127 | 224.. => Err(CidrError::Reserved(network)),
            1..=126 | 128..=223 => Ok(network),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_knows_its_ends() {
        let net: Cidr = "10.88.4.0/22".parse().unwrap();
        assert_eq!(net.gateway(), Ipv4Addr::new(10, 88, 4, 1));
        assert_eq!(net.broadcast(), Ipv4Addr::new(10, 88, 7, 255));
        assert!(net.contains(Ipv4Addr::new(10, 88, 7, 9)) && !net.contains(Ipv4Addr::new(10, 88, 8, 0)));
        assert_eq!(net.to_string(), "10.88.4.0/22");
    }

    #[test]
    fn every_mistake_has_its_own_message() {
        let message = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(
            message("10.88.0.1/16"),
            "10.88.0.1/16 is an address inside a network; the network is 10.88.0.0/16"
        );
        assert_eq!(
            message("10.88.0.0/31"),
            "10.88.0.0/31 has a prefix of 31 bits; pods need one from 8 to 30"
        );
        assert_eq!(
            message("127.1.0.0/16"),
            "127.1.0.0/16 is not for hosts: it is reserved for loopback, multicast or nothing"
        );
        for text in
            ["", "10.88.0.0", "10.88.0/16", "10.88.0.0/", "10.88.0.0/33", "10.88.0.0/+8", "fd00::/64", "a/16"]
        {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Syntax(_))), "{text}");
        }
    }
}
