//! Whom to ask: the host's resolvers, as they change, or those that were named for a domain.

use super::name::{Name, before};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The port of all that name none.
const PORT: u16 = 53;
/// How often the host's file is looked at, at most.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How long others go before one that did not answer.
const REST: Duration = Duration::from_secs(10);

/// Who answers what is not of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The name servers of a `resolv.conf`, as they are when somebody asks.
    File(PathBuf),
    /// These.
    Servers(Vec<SocketAddr>),
}

/// What tells whether a file is another one.
type Stamp = (i64, i64, u64, u64);

#[derive(Debug, Default)]
struct Look {
    at: Option<Instant>,
    stamp: Option<Stamp>,
    servers: Vec<SocketAddr>,
}

/// The servers to ask.
#[derive(Debug)]
pub(super) struct Servers {
    upstream: Upstream,
    stubs: Vec<(Name, Vec<SocketAddr>)>,
    /// Never asked: they are this server itself.
    own: Vec<IpAddr>,
    look: Mutex<Look>,
    failed: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Servers {
    /// `stubs` are asked about what is below their domains, and `upstream` about the rest; `own` are
    /// asked nothing.
    pub(super) fn new(upstream: Upstream, stubs: &[(String, Vec<SocketAddr>)], own: Vec<IpAddr>) -> Self {
        let read = |(domain, servers): &(String, Vec<_>)| Some((Name::parse(domain)?, servers.clone()));
        let mut stubs: Vec<_> = stubs.iter().filter_map(read).collect();
        // The longest that fits is meant.
        stubs.sort_by_key(|(name, _)| std::cmp::Reverse(name.wire().len()));
        Self { upstream, stubs, own, look: Mutex::default(), failed: Mutex::default() }
    }

    /// Whom to ask about `name`, in this order.
    pub(super) fn of(&self, name: &[u8], now: Instant) -> Vec<SocketAddr> {
        let stub = self.stubs.iter().find(|(domain, _)| before(name, domain.wire()).is_some());
        let mut servers = match (stub, &self.upstream) {
            (Some((_, servers)), _) | (None, Upstream::Servers(servers)) => servers.clone(),
            (None, Upstream::File(path)) => self.of_host(path, now),
        };
        servers.retain(|server| !(self.own.contains(&server.ip()) && server.port() == PORT));
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |server: &SocketAddr| {
            failed.get(server).is_some_and(|at| now.saturating_duration_since(*at) < REST)
        };
        servers.sort_by_key(rests);
        servers
    }

    /// Others go before it for a while, or no more.
    pub(super) fn note(&self, server: SocketAddr, has_answered: bool, now: Instant) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if has_answered {
            failed.remove(&server);
            return;
        }
        failed.retain(|_, at| now.saturating_duration_since(*at) < REST);
        failed.insert(server, now);
    }

    fn of_host(&self, path: &std::path::Path, now: Instant) -> Vec<SocketAddr> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if look.at.is_some_and(|at| now.saturating_duration_since(at) < LOOK_PERIOD) {
            return look.servers.clone();
        }
        look.at = Some(now);
        let stamp =
            fs::metadata(path).ok().map(|file| (file.mtime(), file.mtime_nsec(), file.ino(), file.size()));
        if stamp != look.stamp || stamp.is_none() {
            look.stamp = stamp;
            // A file that is being replaced is there again a moment later.
            if let Ok(text) = fs::read_to_string(path) {
                look.servers = name_servers(&text);
            }
        }
        look.servers.clone()
    }
}

/// The name servers of a `resolv.conf`. Source: resolv.conf(5).
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
            servers.push(SocketAddr::new(address, PORT));
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_domain_that_fits_is_asked() {
        let stubs = [
            ("example.org".to_owned(), vec![server("192.0.2.1:53")]),
            ("corp.example.org".to_owned(), vec![server("192.0.2.2:5353")]),
        ];
        let servers = Servers::new(Upstream::Servers(vec![server("192.0.2.9:53")]), &stubs, Vec::new());
        let of = |name: &str| servers.of(Name::parse(name).unwrap().wire(), Instant::now());
        assert_eq!(of("a.corp.example.org"), [server("192.0.2.2:5353")]);
        assert_eq!(of("example.org"), [server("192.0.2.1:53")]);
        assert_eq!(of("notexample.org"), [server("192.0.2.9:53")]);
    }

    #[test]
    fn who_does_not_answer_is_asked_last_for_a_while() {
        let all = vec![server("192.0.2.1:53"), server("192.0.2.2:53")];
        let servers = Servers::new(Upstream::Servers(all.clone()), &[], Vec::new());
        let start = Instant::now();
        servers.note(all[0], false, start);
        assert_eq!(servers.of(b"\0", start), [all[1], all[0]]);
        assert_eq!(servers.of(b"\0", start + REST), all);
        servers.note(all[0], false, start);
        servers.note(all[0], true, start);
        assert_eq!(servers.of(b"\0", start), all);
    }

    #[test]
    fn the_hosts_file_is_followed_and_this_server_left_out() {
        let path = std::env::temp_dir().join(format!("keel-resolv-{}", std::process::id()));
        fs::write(&path, "search a\nnameserver 10.88.0.1\nnameserver 192.0.2.1 # it\n").unwrap();
        let own = vec!["10.88.0.1".parse().unwrap()];
        let servers = Servers::new(Upstream::File(path.clone()), &[], own);
        let start = Instant::now();
        assert_eq!(servers.of(b"\0", start), [server("192.0.2.1:53")]);
        fs::write(&path, "nameserver 192.0.2.77\nnameserver fe80::1\n").unwrap();
        let later = start + LOOK_PERIOD;
        assert_eq!(servers.of(b"\0", later), [server("192.0.2.77:53"), server("[fe80::1]:53")]);
        fs::remove_file(&path).unwrap();
        assert_eq!(servers.of(b"\0", later + LOOK_PERIOD).len(), 2, "what was known is kept");
    }
}
