//! Steps as the ports of the node need them: one or two expressions each.

use super::{Expression, Header, IPV4, IPV6, Meta, Register, Route, Verdict};
use std::net::IpAddr;

/// What a rule looks at or does, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Only packets for this machine.
    ToThisMachine,
    /// Only from this interface.
    From(String),
    /// Only out of this interface.
    To(String),
    /// Only of this protocol above IP.
    Protocol(u8),
    /// Only with these bytes at this offset of the IP header.
    Network(u32, Vec<u8>),
    /// Only to this port.
    Port(u16),
    /// To this address and port instead.
    Redirect(IpAddr, u16),
    /// From the address of the interface that it leaves by instead.
    Masquerade,
    /// Nowhere.
    Drop,
    /// Past the rest of the chain.
    Pass,
}

const VALUE: Register = Register(0);
/// What the kernel calls addresses of its own machine.
pub(crate) const LOCAL: u32 = 2;

/// A name as it stands in a register.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(16, 0);
    padded
}

impl Step {
    /// What the kernel does for it.
    pub(super) fn expressions(&self) -> Vec<Expression> {
        let must_be =
            |load: Expression, wanted: Vec<u8>| vec![load, Expression::Compare(VALUE, true, wanted)];
        let payload = |header, offset, wanted: Vec<u8>| {
            let length = u32::try_from(wanted.len()).unwrap_or(0);
            must_be(Expression::Payload(VALUE, header, offset, length), wanted)
        };
        match self {
            Self::ToThisMachine => {
                must_be(Expression::Route(VALUE, Route::AddressType), LOCAL.to_ne_bytes().into())
            }
            Self::From(name) => must_be(Expression::Meta(VALUE, Meta::InputName), interface(name)),
            Self::To(name) => must_be(Expression::Meta(VALUE, Meta::OutputName), interface(name)),
            Self::Protocol(protocol) => must_be(Expression::Meta(VALUE, Meta::Protocol), vec![*protocol]),
            Self::Network(offset, bytes) => payload(Header::Network, *offset, bytes.clone()),
            Self::Port(port) => payload(Header::Transport, 2, port.to_be_bytes().into()),
            Self::Redirect(address, port) => {
                let (family, bytes) = match address {
                    IpAddr::V4(address) => (IPV4, address.octets().to_vec()),
                    IpAddr::V6(address) => (IPV6, address.octets().to_vec()),
                };
                let after = VALUE.after(u32::try_from(bytes.len() / 4).unwrap_or(1));
                vec![
                    Expression::Immediate(VALUE, bytes),
                    Expression::Immediate(after, port.to_be_bytes().into()),
                    Expression::Redirect(family, VALUE, after),
                ]
            }
            Self::Masquerade => vec![Expression::Masquerade],
            Self::Drop => vec![Expression::Verdict(Verdict::Drop)],
            Self::Pass => vec![Expression::Verdict(Verdict::Accept)],
        }
    }
}
