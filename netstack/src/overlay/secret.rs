//! A tunnel in which all is secret: its key, and its other ends.

use super::plan::End;
use crate::sys::nfnetlink::Socket;
use crate::sys::wireguard::{self, Key, Peer};
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
        let put = changes.iter().filter(|(_, peer)| peer.is_some()).count();
        Ok((put, changes.len() - put))
    })
    .await
}

/// Source: RFC 7748, section 5.
fn clamped(mut key: Key) -> Key {
    key[0] &= 248;
    key[31] = (key[31] & 127) | 64;
    key
}

/// What has to come, or be made right, or go.
fn changes(wanted: &BTreeMap<Key, End>, known: &BTreeMap<Key, Peer>) -> Vec<(Key, Option<Peer>)> {
    let is_right = |key: &Key, end: &End| {
        known.get(key).is_some_and(|known| {
            // Whoever answers from another address of its own is followed there by the kernel.
            let found = known.endpoint.map(|endpoint| endpoint.ip());
            known.allowed == end.peer.allowed && found.is_some_and(|found| end.addresses.contains(&found))
        })
    };
    let put = wanted.iter().filter(|(key, end)| !is_right(key, end));
    let gone = known.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (*key, None));
    // First those that go: a network is behind one end only.
    gone.chain(put.map(|(key, end)| (*key, Some(end.peer.clone())))).collect()
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
        assert_eq!(changes(&wanted, &BTreeMap::from([([1; 32], at("198.51.100.3:4000"))])), []);
        let moved = changes(&wanted, &BTreeMap::from([([1; 32], at("203.0.113.1:51820"))]));
        assert_eq!(moved, [([1; 32], Some(peer.clone()))]);
        let more = BTreeMap::from([([1; 32], peer.clone()), ([2; 32], at("192.0.2.9:1"))]);
        assert_eq!(changes(&wanted, &more), [([2; 32], None)]);
    }
}
