//! The ledger against a model that begins anew each time.

use super::super::diff::apply;
use super::super::model::Balancer;
use super::super::table::LOCAL_POOL;
use super::super::testing::{address, endpoint, here, name, port};
use super::super::way::{Pick, Way};
use super::*;
use crate::services::{Endpoint, Family, Policy, Transport};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;

fn node() -> NodeView {
    here()
}

fn some_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (1_u8..8, any::<(bool, bool, bool)>()).prop_map(|(last, (is_here, ready, terminating))| {
        Endpoint { node: is_here.then(|| node().name), ready, terminating, ..endpoint(last) }
    });
    // An address is an endpoint once.
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        let by_target: BTreeMap<Target, Endpoint> = all.into_iter().map(|e| (e.target, e)).collect();
        by_target.into_values().collect()
    })
}

fn some_balancer() -> impl Strategy<Value = Balancer> {
    let sources = proptest::collection::vec((0_u8..3).prop_map(|net| (address(net, 0), 24)), 0..3);
    (proptest::option::of(0_u8..3), sources).prop_map(|(last, sources)| Balancer {
        addresses: last.map(|last| address(98, last)).into_iter().collect(),
        sources,
    })
}

fn some_port() -> impl Strategy<Value = ServicePort> {
    let places = (1_u8..5, proptest::option::of(1_u8..3), proptest::option::of(30_000_u16..30_003));
    (places, any::<(bool, bool, bool, bool)>(), some_endpoints(), some_balancer()).prop_map(
        |((cluster, external, node_port), (udp, sticky, inside, outside), endpoints, balancer)| ServicePort {
            transport: if udp { Transport::Udp } else { Transport::Tcp },
            cluster_addresses: vec![address(96, cluster)],
            balancer,
            external_addresses: external.map(|last| address(97, last)).into_iter().collect(),
            node_port,
            affinity: sticky.then_some(Duration::from_secs(60)),
            internal: if inside { Policy::Local } else { Policy::Cluster },
            external: if outside { Policy::Local } else { Policy::Cluster },
            ..port(endpoints)
        },
    )
}

/// Services set one after the other; with no port, removed.
fn some_history() -> impl Strategy<Value = Vec<(u8, Vec<ServicePort>)>> {
    proptest::collection::vec((0_u8..4, proptest::collection::vec(some_port(), 0..3)), 1..12)
}

/// Order does not matter; everything else does.
fn without_order(contents: &Contents) -> BTreeMap<String, BTreeSet<String>> {
    let mut sorted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (slot, content) in contents {
        let place = match slot {
            Slot::Endpoint(frontend, number) => format!("{frontend:?} {}", number >= &LOCAL_POOL),
            Slot::Service(_)
            | Slot::Member(..)
            | Slot::Loop(_)
            | Slot::Fence(_)
            | Slot::Source(..)
            | Slot::Balanced(_) => format!("{slot:?}"),
        };
        sorted.entry(place).or_default().insert(format!("{content:?}"));
    }
    sorted
}

/// A way leads to as many endpoints as it counts, with nothing left out.
fn assert_whole(contents: &Contents) {
    for (slot, content) in contents {
        let (Slot::Service(frontend), Content::Ways(ways)) = (slot, content) else { continue };
        for way in ways {
            let Way::Pick(Pick { count, pool, .. }) = way else { continue };
            let base = if *pool == Pool::Local { LOCAL_POOL } else { 0 };
            for number in 0..u32::from(*count) {
                assert!(contents.contains_key(&Slot::Endpoint(*frontend, base + number)), "{slot:?} {way:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn changes_come_to_the_same_as_beginning_anew(history in some_history()) {
        let mut ledger = Ledger::new(Contents::new());
        ledger.replace(node(), &BTreeMap::new());
        let mut kernel = Contents::new();
        let mut last = BTreeMap::new();
        for (service, ports) in history {
            ledger.set(&name(service), &ports);
            let changes = ledger.take_changes();
            prop_assert!(changes.removed.iter().all(|(slot, content)| kernel.get(slot) == Some(content)));
            let is_free = |slot| !kernel.contains_key(slot) || changes.removed.contains_key(slot);
            prop_assert!(changes.added.keys().all(is_free));
            apply(&mut kernel, &changes);
            prop_assert_eq!(&kernel, ledger.contents());
            assert_whole(&kernel);
            last.insert(name(service), ports);
        }
        let mut anew = Ledger::new(Contents::new());
        anew.replace(node(), &last);
        prop_assert_eq!(without_order(anew.contents()), without_order(&kernel));
        // A restarted agent finds all as it wants it.
        let mut restarted = Ledger::new(kernel);
        restarted.replace(node(), &last);
        prop_assert!(restarted.take_changes().is_empty());
    }

    #[test]
    fn whatever_was_there_before_is_mended(
        found in super::super::testing::contents(),
        history in some_history(),
    ) {
        let all: BTreeMap<_, _> = history.into_iter().map(|(service, ports)| (name(service), ports)).collect();
        let mut ledger = Ledger::new(found.clone());
        ledger.replace(node(), &all);
        let mut kernel = found;
        apply(&mut kernel, &ledger.take_changes());
        prop_assert_eq!(&kernel, ledger.contents());
        let mut anew = Ledger::new(Contents::new());
        anew.replace(node(), &all);
        prop_assert_eq!(without_order(anew.contents()), without_order(&kernel));
    }
}

#[test]
fn one_endpoint_more_or_less_changes_few_elements() {
    let mut ledger = Ledger::new(Contents::new());
    ledger.replace(node(), &BTreeMap::new());
    let all: Vec<_> = (1..=200).map(endpoint).collect();
    ledger.set(&name(1), &[port(all[1..].to_vec())]);
    ledger.take_changes();
    // The new one sorts first, and takes the last place.
    ledger.set(&name(1), &[port(all.clone())]);
    let changes = ledger.take_changes();
    assert_eq!((changes.removed.len(), changes.added.len()), (1, 2), "{changes:?}");
    // One in the middle goes; the last takes its place.
    ledger.set(&name(1), &[port([&all[..50], &all[51..]].concat())]);
    let changes = ledger.take_changes();
    assert_eq!((changes.removed.len(), changes.added.len()), (3, 2), "{changes:?}");
    // One for another.
    ledger.set(&name(1), &[port([&all[..49], &all[50..]].concat())]);
    let changes = ledger.take_changes();
    assert_eq!((changes.removed.len(), changes.added.len()), (1, 1), "{changes:?}");
}

#[test]
fn of_two_services_with_one_address_the_first_has_it_and_the_other_waits() {
    let mut ledger = Ledger::new(Contents::new());
    ledger.replace(node(), &BTreeMap::new());
    ledger.set(&name(2), &[port(vec![endpoint(2)])]);
    let first = ledger.contents().clone();
    ledger.set(&name(1), &[port(vec![endpoint(1)])]);
    let frontend = ledger.frontends_of(&name(2)).next().unwrap();
    let asked = |ledger: &Ledger| ledger.contents()[&Slot::Endpoint(frontend, 0)];
    assert_eq!(asked(&ledger), Content::Target(endpoint(1).target));
    assert_eq!(ledger.losers([frontend].into_iter()), [(frontend, name(2))]);
    ledger.set(&name(1), &[]);
    assert_eq!(ledger.contents(), &first);
    assert!(Family::of(frontend.address) == Family::V4 && ledger.losers([frontend].into_iter()).is_empty());
}

#[test]
fn services_with_the_same_sources_share_their_ranges() {
    let mut ledger = Ledger::new(Contents::new());
    ledger.replace(node(), &BTreeMap::new());
    let fenced = |last, sources: &[(IpAddr, u8)]| {
        let balancer = Balancer { addresses: vec![address(98, last)], sources: sources.to_vec() };
        vec![ServicePort { cluster_addresses: vec![address(96, last)], balancer, ..port(vec![endpoint(1)]) }]
    };
    let ranges =
        |ledger: &Ledger| ledger.contents().keys().filter(|slot| matches!(slot, Slot::Source(..))).count();
    let two = [(address(1, 0), 24), (address(3, 0), 24)];
    ledger.set(&name(1), &fenced(1, &two));
    ledger.set(&name(2), &fenced(2, &two));
    assert_eq!(ranges(&ledger), 2);
    ledger.take_changes();
    ledger.set(&name(2), &fenced(2, &two[..1]));
    let changes = ledger.take_changes();
    assert_eq!((changes.removed.len(), changes.added.len()), (1, 2), "{changes:?}");
    ledger.set(&name(1), &[]);
    assert_eq!(ranges(&ledger), 1);
    ledger.set(&name(2), &fenced(2, &[]));
    assert_eq!(ranges(&ledger), 0);
    assert!(ledger.contents().contains_key(&Slot::Balanced(address(98, 2))));
    assert!(!ledger.contents().contains_key(&Slot::Balanced(address(98, 1))));
}
