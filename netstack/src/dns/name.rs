//! Domain names in wire form: labels behind their lengths, and an empty one at the end.
//!
//! All names are kept in lower case, so that equal names are equal bytes.

use super::code::{LABEL, NAME};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A whole name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(Box<[u8]>);

impl Name {
    /// A name as people write it, with or without the last dot; nothing if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        if !text.is_empty() {
            for label in text.split('.') {
                push_label(&mut wire, label)?;
            }
        }
        wire.push(0);
        (wire.len() <= NAME).then(|| Self(wire.into()))
    }

    /// `labels` in front of `rest`; nothing if that is too long, or a label is none.
    pub(super) fn joined(labels: &[&str], rest: &[u8]) -> Option<Self> {
        let mut wire = Vec::with_capacity(rest.len() + 64);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        wire.extend_from_slice(rest);
        (wire.len() <= NAME).then(|| Self(wire.into()))
    }

    /// Whole labels in wire form, without the empty one, in front of `rest`.
    pub(super) fn concatenated(labels: &[u8], rest: &[u8]) -> Option<Self> {
        (labels.len() + rest.len() <= NAME).then(|| Self([labels, rest].concat().into()))
    }

    /// What is in wire form and lower case already.
    #[cfg(test)]
    pub(super) fn of_wire(wire: &[u8]) -> Self {
        Self(wire.into())
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_wire(self) -> Box<[u8]> {
        self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        labels(&self.0).try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn push_label(wire: &mut Vec<u8>, label: &str) -> Option<()> {
    let length =
        u8::try_from(label.len()).ok().filter(|length| (1..=LABEL).contains(&usize::from(*length)))?;
    wire.push(length);
    wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    Some(())
}

/// The labels of a name in wire form, the empty one left out.
pub(super) fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = wire.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        wire = rest;
        (!label.is_empty()).then_some(label)
    })
}

/// Where the labels of a name in wire form begin, the empty one left out.
pub(super) fn starts(wire: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    labels(wire).map(move |label| {
        let here = at;
        at += 1 + label.len();
        here
    })
}

/// The labels in front of `suffix`, which is a whole name; nothing if the name does not end so.
pub(super) fn before<'n>(wire: &'n [u8], suffix: &[u8]) -> Option<&'n [u8]> {
    let at = wire.len().checked_sub(suffix.len())?;
    let is_boundary = || at == 0 || starts(wire).any(|start| start == at) || at + 1 == wire.len();
    (&wire[at..] == suffix && is_boundary()).then(|| &wire[..at])
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` is for, and the tree that it is in.
pub(super) fn reversed(wire: &[u8]) -> Option<(IpAddr, &'static [u8])> {
    if let Some(part) = before(wire, V4_TREE) {
        let mut octets = [0; 4];
        let mut parts = labels(part);
        for octet in octets.iter_mut().rev() {
            let label = std::str::from_utf8(parts.next()?).ok()?;
            *octet = label.parse().ok().filter(|number: &u8| number.to_string() == label)?;
        }
        return parts.next().is_none().then(|| (Ipv4Addr::from(octets).into(), V4_TREE));
    }
    let part = before(wire, V6_TREE)?;
    let mut value = 0_u128;
    let mut count = 0;
    for label in labels(part) {
        let [digit] = label else { return None };
        value |= u128::from(char::from(*digit).to_digit(16)?).checked_shl(4 * count)?;
        count += 1;
    }
    (count == 32).then(|| (Ipv6Addr::from(value).into(), V6_TREE))
}

/// Where names of IPv4 addresses are.
const V4_TREE: &[u8] = b"\x07in-addr\x04arpa\0";
/// Where names of IPv6 addresses are.
const V6_TREE: &[u8] = b"\x03ip6\x04arpa\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_are_read_and_shown() {
        assert_eq!(name("Web.Default.").wire(), b"\x03web\x07default\0");
        assert_eq!(name("web.default").to_string(), "web.default.");
        assert_eq!(name(".").wire(), b"\0");
        assert_eq!(name("").to_string(), ".");
        for wrong in ["a..b", ".a", &"a".repeat(64), &"abcdefg.".repeat(32)] {
            assert!(Name::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_suffix_is_cut_off_at_labels_only() {
        let web = name("web.default.svc.cluster.local");
        assert_eq!(before(web.wire(), name("cluster.local").wire()), Some(&b"\x03web\x07default\x03svc"[..]));
        assert_eq!(before(web.wire(), web.wire()), Some(&b""[..]));
        assert_eq!(before(web.wire(), b"\0").map(<[u8]>::len), Some(web.wire().len() - 1));
        assert_eq!(before(name("xcluster.local").wire(), name("cluster.local").wire()), None);
        // The last bytes are the same, but are in the middle of a label.
        let inside = Name::concatenated(b"\x10a\x07cluster\x05local", b"\0").unwrap();
        assert_eq!(before(inside.wire(), name("cluster.local").wire()), None);
    }

    #[test]
    fn addresses_are_read_from_their_names() {
        let read = |text: &str| reversed(name(text).wire()).map(|(address, _)| address.to_string());
        assert_eq!(read("1.0.3.10.in-addr.arpa").as_deref(), Some("10.3.0.1"));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(read(six).as_deref(), Some("2001:db8::1"));
        for none in ["0.3.10.in-addr.arpa", "1.1.0.3.10.in-addr.arpa", "01.0.3.10.in-addr.arpa", "8.ip6.arpa"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
