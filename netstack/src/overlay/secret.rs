//! A tunnel in which all is secret: its key, and its other ends.

use super::plan::End;
use crate::sys::nfnetlink::Socket;
use crate::sys::wireguard::{self, Change, Key, Peer};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The device has that key and port. Returns whether it had not.
pub(super) async fn ensure_key(
    socket: &Arc<Mutex<Socket>>,
    name: &str,
    (private, port): (Key, u16),
) -> io::Result<bool> {
    let name = name.to_owned();
    blocking(socket, move |socket| {
        let known = wireguard::look(socket, &name)?;
        // The kernel clears some bits of a key, which mean nothing.
        if (known.private, known.port) == (clamped(private), port) {
            return Ok(false);
        }
        wireguard::set_key(socket, &name, (&private, port))?;
        Ok(true)
    })
    .await
}

/// Exactly these are the other ends. Returns how many came or were wrong, and how many went.
pub(super) async fn ensure_ends(
    socket: &Arc<Mutex<Socket>>,
    name: &str,
    wanted: BTreeMap<Key, End>,
) -> io::Result<(usize, usize)> {
    let name = name.to_owned();
    blocking(socket, move |socket| {
        let known = wireguard::look(socket, &name)?.peers;
        let changes = changes(&wanted, &known);
        wireguard::change(socket, &name, &changes)?;
        let gone = changes.iter().filter(|(_, change)| *change == Change::Gone).count();
        Ok((changes.len() - gone, gone))
    })
    .await
}

/// Source: RFC 7748, section 5.
fn clamped(mut key: Key) -> Key {
    key[0] &= 248;
    key[31] = (key[31] & 127) | 64;
    key
}

/// What has to come, or be made right, or go. What a peer has and should have is not taken from it.
fn changes(wanted: &BTreeMap<Key, End>, known: &BTreeMap<Key, Peer>) -> Vec<(Key, Change)> {
    let put = wanted.iter().filter_map(|(key, end)| Some((*key, change(end, known.get(key))?)));
    let gone = known.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (*key, Change::Gone));
    // First those that go: a network is behind one end only.
    gone.chain(put).collect()
}

/// What makes it right; nothing if it is.
fn change(end: &End, known: Option<&Peer>) -> Option<Change> {
    let Some(known) = known else { return Some(Change::Put(end.peer.clone())) };
    // Whoever answers from another address of its own is followed there by the kernel.
    let found = known.endpoint.map(|endpoint| endpoint.ip());
    let is_found = found.is_some_and(|found| end.addresses.contains(&found));
    let endpoint = end.peer.endpoint.filter(|_| !is_found);
    let allowed = end.peer.allowed.clone();
    if !known.allowed.is_subset(&allowed) {
        return Some(Change::Exactly(Peer { endpoint, allowed }));
    }
    (endpoint.is_some() || known.allowed != allowed).then_some(Change::Put(Peer { endpoint, allowed }))
}

async fn blocking<T: Send + 'static>(
    socket: &Arc<Mutex<Socket>>,
    work: impl FnOnce(&mut Socket) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let socket = Arc::clone(socket);
    let done =
        tokio::task::spawn_blocking(move || work(&mut socket.lock().unwrap_or_else(PoisonError::into_inner)));
    done.await.map_err(io::Error::other).and_then(|done| done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_end_that_is_right_is_left_alone_wherever_it_answers_from() {
        let allowed: BTreeSet<_> = ["10.244.1.0/24".parse().unwrap()].into();
        let endpoint = Some("192.0.2.3:51820".parse().unwrap());
        let peer = Peer { endpoint, allowed };
        let addresses = vec!["192.0.2.3".parse().unwrap(), "198.51.100.3".parse().unwrap()];
        let wanted = BTreeMap::from([([1; 32], End { peer: peer.clone(), addresses })]);
        let at = |text: &str| Peer { endpoint: Some(text.parse().unwrap()), ..peer.clone() };
        assert_eq!(changes(&wanted, &BTreeMap::new()), [([1; 32], Change::Put(peer.clone()))]);
        assert_eq!(changes(&wanted, &BTreeMap::from([([1; 32], at("198.51.100.3:4000"))])), []);
        let moved = changes(&wanted, &BTreeMap::from([([1; 32], at("203.0.113.1:51820"))]));
        assert_eq!(moved, [([1; 32], Change::Put(peer.clone()))]);
        let more = BTreeMap::from([([1; 32], peer.clone()), ([2; 32], at("192.0.2.9:1"))]);
        assert_eq!(changes(&wanted, &more), [([2; 32], Change::Gone)]);
    }

    #[test]
    fn networks_that_stay_are_not_taken_away_unless_others_have_to_go() {
        let networks = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>();
        let peer = |all: &[&str]| Peer { endpoint: "192.0.2.3:51820".parse().ok(), allowed: networks(all) };
        let end = End {
            peer: peer(&["10.244.1.0/24", "fd44::/64"]),
            addresses: vec!["192.0.2.3".parse().unwrap()],
        };
        let to = |known: &[&str]| change(&end, Some(&peer(known)));
        let stays = Peer { endpoint: None, ..end.peer.clone() };
        assert_eq!(to(&["10.244.1.0/24", "fd44::/64"]), None);
        assert_eq!(to(&["10.244.1.0/24"]), Some(Change::Put(stays.clone())));
        assert_eq!(to(&["10.244.1.0/24", "fd44::/64", "10.9.0.0/24"]), Some(Change::Exactly(stays)));
    }
}
