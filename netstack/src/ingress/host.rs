//! The names of sites: as rules write them, and as clients ask for them. Pure.

/// The host of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRule {
    /// Whatever is asked for.
    Any,
    /// This name.
    Exact(String),
    /// One label more than this name: of `*.example.com` it is `example.com`.
    Wildcard(String),
}

impl HostRule {
    /// What a manifest means by `host`; nothing in it is any host.
    #[must_use]
    pub fn parse(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            _ if host.is_empty() || host == "*" => Self::Any,
            Some(parent) => Self::Wildcard(parent.to_owned()),
            None => Self::Exact(host),
        }
    }

    /// Whether every name of `other` is one of this rule's.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Wildcard(parent), Self::Exact(name)) => parent_of(name) == Some(parent),
            (own, other) => own == other,
        }
    }
}

/// What is after the first label of `name`; none of a name of one label.
pub(super) fn parent_of(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, parent)| !label.is_empty() && !parent.is_empty()).map(|(_, p)| p)
}

/// The name in `Host:` or `:authority`, without its port and final dot, in small letters.
pub(super) fn asked_for(authority: &str) -> String {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let name = match authority.get(end..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => authority.get(..end + colon).unwrap_or_default(),
        None => authority,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_with_or_without_a_port() {
        for (authority, name) in [
            ("Example.com", "example.com"),
            ("example.com:8443", "example.com"),
            ("example.com.:80", "example.com"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(asked_for(authority), name, "{authority}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_more() {
        let wildcard = HostRule::parse("*.Example.com");
        let covers = |name: &str| wildcard.covers(&HostRule::parse(name));
        assert!(covers("a.example.com") && covers("*.example.com"));
        assert!(!covers("example.com") && !covers("a.b.example.com") && !covers(""));
        assert!(HostRule::parse("").covers(&HostRule::parse("a.b")));
        assert_eq!(parent_of(".example.com"), None);
    }
}
