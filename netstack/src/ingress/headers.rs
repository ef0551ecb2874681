//! What is said in a request and an answer to the next one only, and what is added for the backend. Pure.

use hyper::header::{
    CONNECTION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use std::net::{IpAddr, SocketAddr};

/// Between two neighbours only. Source: RFC 9110, section 7.6.1.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    /// The port that it came to.
    pub(super) port: u16,
    pub(super) tls: bool,
    /// A proxy whose word of its own clients is taken.
    pub(super) trusted: bool,
}

/// Nothing is left in `headers` that is for the neighbour only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let trailers = headers.get(TE).is_some_and(wants_trailers);
    for name in named.into_iter().chain(HOP_BY_HOP) {
        // What says where the answer comes from stays, whatever a client says of it.
        if name != HOST {
            headers.remove(name);
        }
    }
    // gRPC asks for it, and it is true of us.
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn wants_trailers(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("trailers")))
}

/// The protocol that `headers` ask to change to, if they do.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked =
        asked.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// `headers` ask their receiver, or tell it, to change to `protocol`.
pub(super) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Cookies, which HTTP/2 may send in parts, are one. Source: RFC 9113, section 8.2.3.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// `headers` tell the backend who asks for what: `host` as the client named it, and an `id` if it has none.
pub(super) fn tell_backend(headers: &mut HeaderMap, client: &Client, host: &str, id: &str) {
    let mut set = |name: HeaderName, value: &str, keep: bool| {
        if keep && headers.contains_key(&name) {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let scheme = if client.tls { "https" } else { "http" };
    let peer = client.peer.ip().to_canonical();
    set(HOST, host, false);
    set(FORWARDED_HOST, host, client.trusted);
    set(FORWARDED_PROTO, scheme, client.trusted);
    set(FORWARDED_SCHEME, scheme, client.trusted);
    set(FORWARDED_PORT, &client.port.to_string(), client.trusted);
    set(REQUEST_ID, id, true);
    let before = client.trusted.then(|| chain(headers)).flatten();
    let known = before.as_deref().and_then(|chain| chain.rsplit(',').next()).map(str::trim);
    let real = known.and_then(|text| text.parse::<IpAddr>().ok()).unwrap_or(peer);
    let chain = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    for (name, value) in [(FORWARDED_FOR, chain), (REAL_IP, real.to_string())] {
        headers.remove(&name);
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    // It would say something else than the rest.
    if !client.trusted {
        headers.remove(FORWARDED);
    }
    headers.remove(TRAILER);
}

/// `X-Forwarded-For` as it came.
fn chain(headers: &HeaderMap) -> Option<String> {
    let all: Vec<_> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn client(trusted: bool) -> Client {
        Client { peer: "192.0.2.7:5555".parse().unwrap(), port: 443, tls: true, trusted }
    }

    fn said<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn what_is_for_the_neighbour_only_is_not_passed_on() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Own"),
            ("connection", "host"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("host", "a"),
            ("accept", "*/*"),
        ]);
        strip(&mut map);
        assert_eq!(map, headers(&[("te", "trailers"), ("host", "a"), ("accept", "*/*")]));
    }

    #[test]
    fn parts_of_cookies_become_one() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut map);
        assert_eq!(map, headers(&[("cookie", "a=1; b=2")]));
    }

    #[test]
    fn an_upgrade_has_to_be_named_twice() {
        let asks =
            |connection, protocol| upgrade(&headers(&[("connection", connection), ("upgrade", protocol)]));
        assert_eq!(asks("keep-alive, Upgrade", "websocket"), Some(HeaderValue::from_static("websocket")));
        assert_eq!(asks("keep-alive", "websocket"), None);
        assert_eq!(upgrade(&headers(&[("connection", "upgrade")])), None);
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        let mut map = headers(&[
            ("x-forwarded-for", "203.0.113.1"),
            ("x-real-ip", "203.0.113.1"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=203.0.113.1"),
            ("x-request-id", "mine"),
        ]);
        tell_backend(&mut map, &client(false), "a.example", "new");
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "a.example"),
            ("forwarded", ""),
            ("x-request-id", "mine"),
            ("host", "a.example"),
        ] {
            assert_eq!(said(&map, name), value, "{name}");
        }
    }

    #[test]
    fn a_trusted_proxy_says_who_its_client_is() {
        let mut map = headers(&[
            ("x-forwarded-for", "198.51.100.1, 203.0.113.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "80"),
        ]);
        tell_backend(&mut map, &client(true), "a.example", "new");
        assert_eq!(said(&map, "x-forwarded-for"), "198.51.100.1, 203.0.113.1, 192.0.2.7");
        assert_eq!(said(&map, "x-real-ip"), "203.0.113.1");
        assert_eq!(said(&map, "x-forwarded-proto"), "http");
        assert_eq!(said(&map, "x-forwarded-port"), "80");
        assert_eq!(said(&map, "x-request-id"), "new");
    }
}
