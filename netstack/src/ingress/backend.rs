//! The endpoints of a port of a Service, and whose turn it is. Nothing here asks them.

use crate::services::Endpoint;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// For how long one that could not be reached is asked last.
const SHUNNED: Duration = Duration::from_secs(10);

/// A port of a Service. Its endpoints come and go while routes lead to it.
#[derive(Debug, Default)]
pub struct Backend {
    /// Namespace, name and port, for people.
    name: String,
    endpoints: RwLock<Arc<[SocketAddr]>>,
    next: AtomicUsize,
    /// When they could not be reached.
    shunned: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Backend {
    /// One without endpoints.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on it has these endpoints.
    pub fn set(&self, endpoints: Vec<SocketAddr>) {
        self.shunned().retain(|address, _| endpoints.contains(address));
        *self.endpoints.write().unwrap_or_else(PoisonError::into_inner) = endpoints.into();
    }

    /// All of its endpoints, the one whose turn it is first; those that could not be reached lately last.
    #[must_use]
    pub fn turn(&self, now: Instant) -> Vec<SocketAddr> {
        let endpoints = Arc::clone(&self.endpoints.read().unwrap_or_else(PoisonError::into_inner));
        if endpoints.is_empty() {
            return Vec::new();
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let (before, after) = endpoints.split_at(first);
        let mut order: Vec<_> = after.iter().chain(before).copied().collect();
        let mut shunned = self.shunned();
        if !shunned.is_empty() {
            shunned.retain(|_, since| now.saturating_duration_since(*since) < SHUNNED);
            order.sort_by_key(|address| shunned.contains_key(address));
        }
        order
    }

    /// `address` could not be reached.
    pub fn shun(&self, address: SocketAddr, now: Instant) {
        self.shunned().insert(address, now);
    }

    fn shunned(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.shunned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoints that are to be asked: those that are ready; if there are none, those that still serve
/// while they end. Of a service of both families one is enough: they are the same pods.
#[must_use]
pub fn usable(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let ready = |endpoint: &&Endpoint| endpoint.ready;
    let ending = |endpoint: &&Endpoint| !endpoint.ready && endpoint.serving && endpoint.terminating;
    let address = |endpoint: &Endpoint| SocketAddr::new(endpoint.target.address, endpoint.target.port);
    let mut chosen: Vec<SocketAddr> = endpoints.iter().filter(ready).map(address).collect();
    if chosen.is_empty() {
        chosen.extend(endpoints.iter().filter(ending).map(address));
    }
    if chosen.iter().any(SocketAddr::is_ipv4) {
        chosen.retain(SocketAddr::is_ipv4);
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Target;

    fn at(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    fn endpoint(number: u8, ready: bool, serving: bool, terminating: bool) -> Endpoint {
        let target = Target { address: at(number).ip(), port: 80 };
        let (zones, nodes) = (Vec::new(), Vec::new());
        Endpoint { target, node: None, ready, serving, terminating, zones, nodes }
    }

    #[test]
    fn the_ready_are_asked_and_without_any_those_that_end() {
        let (ready, starting) = (endpoint(1, true, true, false), endpoint(2, false, false, false));
        let (ending, gone) = (endpoint(3, false, true, true), endpoint(4, false, false, true));
        assert_eq!(usable(&[ready, starting.clone(), ending.clone(), gone.clone()]), [at(1)]);
        assert_eq!(usable(&[starting.clone(), ending, gone]), [at(3)]);
        assert_eq!(usable(&[starting]), []);
    }

    #[test]
    fn of_two_families_one_is_asked() {
        let mut six = endpoint(1, true, true, false);
        six.target.address = "fd00::1".parse().unwrap();
        assert_eq!(usable(&[six.clone(), endpoint(1, true, true, false)]), [at(1)]);
        assert_eq!(usable(std::slice::from_ref(&six)), [SocketAddr::new(six.target.address, 80)]);
    }

    #[test]
    fn they_take_turns_and_who_failed_comes_last_for_a_while() {
        let now = Instant::now();
        let backend = Backend::new("n/s:80".into());
        assert_eq!(backend.turn(now), []);
        backend.set(vec![at(1), at(2), at(3)]);
        assert_eq!(backend.turn(now), [at(1), at(2), at(3)]);
        assert_eq!(backend.turn(now), [at(2), at(3), at(1)]);
        backend.shun(at(3), now);
        assert_eq!(backend.turn(now), [at(1), at(2), at(3)]);
        assert_eq!(backend.turn(now), [at(1), at(2), at(3)]);
        assert_eq!(backend.turn(now), [at(2), at(1), at(3)]);
        assert_eq!(backend.turn(now + SHUNNED), [at(3), at(1), at(2)]);
        backend.shun(at(1), now);
        backend.set(vec![at(2)]);
        assert_eq!(backend.turn(now), [at(2)]);
    }
}
