//! Networks of either family.

use crate::cidr::{Cidr, CidrError};
use crate::services::Family;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in canonical form: no bit is set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The network of `prefix` bits that `address` is in; of all its bits if there are not so many.
    #[must_use]
    pub fn containing(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { address: Ipv4Addr::from(u32::from(address) & mask).into(), prefix }
            }
            IpAddr::V6(address) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { address: Ipv6Addr::from(u128::from(address) & mask).into(), prefix }
            }
        }
    }

    /// Its first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Length of its prefix in bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whose addresses it holds.
    #[must_use]
    pub const fn family(self) -> Family {
        Family::of(self.address)
    }

    /// Whether `address` lies within.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && Self::containing(address, self.prefix) == self
    }

    /// Whether all of `other` lies within.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// The address that comes `number` after the first.
    #[must_use]
    pub fn host(self, number: u32) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) | number).into(),
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) | u128::from(number)).into(),
        }
    }

    /// How many come between the first and `address`, which is one of them; `None` if it is not, or they are too many.
    fn number_of(self, address: IpAddr) -> Option<u32> {
        if !self.contains(address) {
            return None;
        }
        match (self.address, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => u32::from(address).checked_sub(first.into()),
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                u128::from(address).checked_sub(first.into()).and_then(|number| number.try_into().ok())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The first host address; of a node's pods' network, the bridge has it.
    #[must_use]
    pub fn gateway(self) -> IpAddr {
        self.host(1)
    }
}

impl From<Cidr> for Subnet {
    fn from(cidr: Cidr) -> Self {
        Self { address: cidr.network().into(), prefix: cidr.prefix() }
    }
}

impl FromStr for Subnet {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError::Subnet(text.into());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        let subnet = Self::containing(address, prefix);
        if subnet == (Self { address, prefix }) { Ok(subnet) } else { Err(wrong()) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The networks that a node's pods share: IPv4, IPv6 or both.
///
/// A pod has one number on its node, and with it an address of each network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCidrs {
    v4: Option<Cidr>,
    v6: Option<Subnet>,
}

/// Where pods have no IPv4 addresses, they have numbers as if of this network.
const NUMBERS: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 16);
/// Shortest and longest prefix of IPv6 networks of pods.
const V6_PREFIXES: std::ops::RangeInclusive<u8> = 16..=122;

impl PodCidrs {
    /// The networks, IPv4 first.
    #[must_use]
    pub fn subnets(&self) -> Vec<Subnet> {
        self.v4.map(Subnet::from).into_iter().chain(self.v6).collect()
    }

    /// The bridge's addresses, IPv4 first.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.subnets().into_iter().map(Subnet::gateway).collect()
    }

    /// The network of that family.
    #[must_use]
    pub fn of(&self, family: Family) -> Option<Subnet> {
        match family {
            Family::V4 => self.v4.map(Subnet::from),
            Family::V6 => self.v6,
        }
    }

    /// What pods' numbers are taken from.
    pub(crate) fn numbers(&self) -> Cidr {
        let bits = self.v6.map_or(NUMBERS.1, |v6| NUMBERS.1.max(32_u8.saturating_sub(128 - v6.prefix)));
        self.v4.unwrap_or_else(|| Cidr::containing(NUMBERS.0, bits))
    }

    /// The addresses that come with a number, with their prefixes and gateways.
    pub(crate) fn addresses(&self, number: Ipv4Addr) -> Vec<(IpAddr, Subnet)> {
        let offset = u32::from(number) - u32::from(self.numbers().network());
        self.subnets().into_iter().map(|subnet| (subnet.host(offset), subnet)).collect()
    }

    /// The number that all of `addresses` come with.
    pub(crate) fn number_of(&self, addresses: &[IpAddr]) -> Option<Ipv4Addr> {
        let first = *addresses.first()?;
        let offset = self.subnets().into_iter().find_map(|subnet| subnet.number_of(first))?;
        let number = Ipv4Addr::from(u32::from(self.numbers().network()).checked_add(offset)?);
        let known = self.addresses(number);
        let is_known = |address: &IpAddr| known.iter().any(|(other, _)| other == address);
        addresses.iter().all(is_known).then_some(number)
    }
}

impl From<Cidr> for PodCidrs {
    fn from(cidr: Cidr) -> Self {
        Self { v4: Some(cidr), v6: None }
    }
}

impl FromStr for PodCidrs {
    type Err = CidrError;

    /// One network, or one of each family with a comma between.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let mut cidrs = Self { v4: None, v6: None };
        for part in text.split(',').map(str::trim) {
            let wrong = || CidrError::Subnet(part.into());
            if part.contains(':') {
                let subnet: Subnet = part.parse()?;
                let fits = V6_PREFIXES.contains(&subnet.prefix) && cidrs.v6.is_none();
                cidrs.v6 = Some(subnet).filter(|_| fits);
                cidrs.v6.ok_or_else(wrong)?;
            } else if cidrs.v4.replace(part.parse()?).is_some() {
                return Err(wrong());
            }
        }
        if let (Some(v4), Some(v6)) = (cidrs.v4, cidrs.v6)
            && 128 - v6.prefix < 32 - v4.prefix()
        {
            return Err(CidrError::Narrow { wide: v4, narrow: v6 });
        }
        Ok(cidrs)
    }
}

impl fmt::Display for PodCidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subnets = self.subnets().into_iter().map(|subnet| subnet.to_string());
        f.write_str(&subnets.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_an_address_of_each_network_with_the_same_number() {
        let both: PodCidrs = "10.244.3.0/24, fd00:244:0:3::/64".parse().unwrap();
        let addresses = both.addresses(Ipv4Addr::new(10, 244, 3, 7));
        let texts: Vec<_> = addresses.iter().map(|(address, _)| address.to_string()).collect();
        assert_eq!(texts, ["10.244.3.7", "fd00:244:0:3::7"]);
        assert_eq!(both.to_string(), "10.244.3.0/24,fd00:244:0:3::/64");
        let only: PodCidrs = "fd00:244:0:3::/64".parse().unwrap();
        assert_eq!(only.gateways(), ["fd00:244:0:3::1".parse::<IpAddr>().unwrap()]);
        let number = only.numbers().network();
        assert_eq!(
            only.addresses(Ipv4Addr::from(u32::from(number) + 259))[0].0.to_string(),
            "fd00:244:0:3::103"
        );
        let narrow: PodCidrs = "fd00::/120".parse().unwrap();
        assert_eq!(narrow.numbers().prefix(), 24);
    }

    #[test]
    fn what_is_no_network_of_pods_is_refused() {
        for text in ["", "fd00::1/64", "fd00::/64,fd01::/64", "10.1.0.0/24,10.2.0.0/24", "fd00::/128"] {
            assert!(text.parse::<PodCidrs>().is_err(), "{text}");
        }
        assert_eq!(
            "10.0.0.0/16,fd00::/120".parse::<PodCidrs>().unwrap_err().to_string(),
            "fd00::/120 has fewer addresses than 10.0.0.0/16; pods have one of each"
        );
    }

    #[test]
    fn a_subnet_knows_what_is_in_it() {
        let net: Subnet = "10.244.0.0/16".parse().unwrap();
        assert!(net.covers("10.244.7.0/24".parse().unwrap()) && !net.covers("10.0.0.0/8".parse().unwrap()));
        assert!(net.contains("10.244.255.255".parse().unwrap()) && !net.contains("::1".parse().unwrap()));
        assert!("::/0".parse::<Subnet>().unwrap().contains("fd00::1".parse().unwrap()));
    }
}
