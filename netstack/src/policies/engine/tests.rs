//! The engine against a model that prepares nothing, through the lookups that the kernel makes.

use super::super::look::passes;
use super::super::meaning::{Attempt, World};
use super::super::model::{
    IpBlock, NamedPort, Peer, Policy, PolicyName, PolicyPod, Ports, Requirement, Rule, Selector,
};
use super::super::slot::diff;
use super::*;
use crate::network::Protocol;
use proptest::prelude::*;

/// What the nodes make of it that have the ends: here, those that are `here`.
fn allowed_here(world: &World, attempt: Attempt) -> bool {
    Direction::BOTH.into_iter().all(|direction| {
        let own = if direction == Direction::Egress { attempt.from } else { attempt.to };
        let is_here = world.owner(own).is_some_and(|pod| pod.here);
        !is_here || world.judge(direction, attempt).allows()
    })
}

fn labels(of: &[(&str, &str)]) -> Labels {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const NAMESPACES: [&str; 2] = ["x", "y"];
const WORDS: [&str; 2] = ["a", "b"];

fn some_selector() -> impl Strategy<Value = Selector> {
    let value = || prop::sample::select(&WORDS[..]).prop_map(ToOwned::to_owned);
    let one = prop_oneof![
        value().prop_map(|value| Requirement::In("l".into(), vec![value])),
        value().prop_map(|value| Requirement::NotIn("l".into(), vec![value])),
        Just(Requirement::Exists("l".into())),
        Just(Requirement::Absent("l".into())),
        prop::sample::select(&NAMESPACES[..])
            .prop_map(|name| Requirement::In("kubernetes.io/metadata.name".into(), vec![name.into()])),
    ];
    prop::collection::vec(one, 0..2).prop_map(Selector)
}

fn some_peer() -> impl Strategy<Value = Peer> {
    let network =
        || (0_u8..8, 29_u8..=32).prop_map(|(last, prefix)| (IpAddr::from([10, 0, 0, last]), prefix));
    prop_oneof![
        3 => (prop::option::of(some_selector()), some_selector())
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => (network(), prop::collection::vec(network(), 0..2))
            .prop_map(|(network, except)| Peer::Block(IpBlock { network, except })),
    ]
}

fn some_ports() -> impl Strategy<Value = Ports> {
    let protocol = || prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    prop_oneof![
        protocol().prop_map(Ports::All),
        (protocol(), 79_u16..83, 0_u16..3).prop_map(|(protocol, first, more)| Ports::Range(
            protocol,
            first,
            first + more
        )),
        protocol().prop_map(|protocol| Ports::Named(protocol, "web".into())),
    ]
}

fn some_rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let rule = (prop::collection::vec(some_peer(), 0..3), prop::collection::vec(some_ports(), 0..3))
        .prop_map(|(peers, ports)| Rule { peers, ports });
    prop::option::of(prop::collection::vec(rule, 0..3))
}

fn some_news() -> impl Strategy<Value = News> {
    let namespace = || prop::sample::select(&NAMESPACES[..]).prop_map(ToOwned::to_owned);
    let some_labels = || {
        prop::option::of(prop::sample::select(&WORDS[..]))
            .prop_map(|value| value.map_or_else(Labels::new, |value| labels(&[("l", value)])))
    };
    let policy = (some_selector(), some_rules(), some_rules()).prop_map(|(pods, ingress, egress)| Policy {
        pods,
        ingress,
        egress,
    });
    let pod = (0_u8..6, namespace(), some_labels(), any::<bool>(), prop::option::of(80_u16..83)).prop_map(
        |(last, namespace, labels, here, port)| {
            let named = |port| NamedPort { name: "web".into(), protocol: Protocol::Tcp, port };
            let pod = PolicyPod {
                namespace,
                labels,
                addresses: vec![[10, 0, 0, last].into()],
                ports: port.map(named).into_iter().collect(),
                here,
                order: 0,
            };
            (last.to_string(), pod)
        },
    );
    prop_oneof![
        1 => (namespace(), prop::option::of(some_labels())).prop_map(|(name, labels)| News::Namespace(name, labels)),
        2 => (namespace(), prop::sample::select(&WORDS[..]), prop::option::weighted(0.8, policy))
            .prop_map(|(namespace, name, policy)| News::Policy(PolicyName { namespace, name: name.into() }, policy)),
        3 => (pod, prop::bool::weighted(0.8)).prop_map(|((uid, pod), stays)| News::Pod(uid, stays.then_some(pod))),
    ]
}

fn all(world: &World) -> Vec<News> {
    let namespaces =
        world.namespaces.iter().map(|(name, labels)| News::Namespace(name.clone(), Some(labels.clone())));
    let policies =
        world.policies.iter().map(|(name, policy)| News::Policy(name.clone(), Some(policy.clone())));
    let pods = world.pods.iter().map(|(uid, pod)| News::Pod(uid.clone(), Some(pod.clone())));
    namespaces.chain(policies).chain(pods).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_elements_mean_what_the_policies_mean(
        news in prop::collection::vec(prop::collection::vec(some_news(), 1..4), 1..12),
    ) {
        let (mut engine, mut world) = (Engine::default(), World::default());
        let mut kernel = Contents::new();
        for batch in news {
            batch.iter().cloned().for_each(|news| world.tell(news));
            let changes = engine.change(batch);
            for (slot, number) in changes.removed {
                prop_assert_eq!(kernel.remove(&slot), Some(number), "what goes was there");
            }
            for (slot, number) in changes.added {
                prop_assert_eq!(kernel.insert(slot, number), None, "what comes was not there");
            }
            prop_assert_eq!(&kernel, engine.contents());
            let mut fresh = Engine::default();
            fresh.replace(all(&world));
            prop_assert!(diff(&kernel, fresh.contents()).is_empty(), "a restart changes nothing");
        }
        for (from, to) in (0_u8..7).flat_map(|from| (0_u8..7).map(move |to| (from, to))) {
            for (protocol, port) in [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| (79..84).map(move |n| (p, n))) {
                let address = |last| IpAddr::from([10, 0, 0, last]);
                let attempt = Attempt { from: address(from), to: address(to), protocol, port };
                let passes = Direction::BOTH.into_iter().all(|direction| passes(&kernel, direction, attempt));
                prop_assert_eq!(passes, allowed_here(&world, attempt), "{:?}", attempt);
            }
        }
    }
}

fn pod(last: u8, namespace: &str, here: bool) -> (String, PolicyPod) {
    let pod = PolicyPod {
        namespace: namespace.into(),
        labels: labels(&[("l", "a")]),
        addresses: vec![[10, 0, 0, last].into()],
        here,
        ..PolicyPod::default()
    };
    (last.to_string(), pod)
}

fn news((uid, pod): (String, PolicyPod)) -> News {
    News::Pod(uid, Some(pod))
}

/// All pods of the namespace may ask one another.
fn among(namespace: &str) -> News {
    let peer = Peer::Pods { namespaces: None, pods: Selector::default() };
    let rule = Rule { peers: vec![peer], ports: Vec::new() };
    let policy = Policy { pods: Selector::default(), ingress: Some(vec![rule]), egress: None };
    News::Policy(PolicyName { namespace: namespace.into(), name: "among".into() }, Some(policy))
}

#[test]
fn what_selects_no_pod_of_this_node_costs_nothing() {
    let mut engine = Engine::default();
    let all = vec![among("x"), among("y"), news(pod(1, "x", false)), news(pod(2, "y", false))];
    assert!(engine.replace(all).is_empty());
    assert_eq!(engine.in_force(), 0);
    // The pod itself: isolated, itself, a peer; and that such peers may ask all like it.
    let changes = engine.change(vec![news(pod(3, "x", true))]);
    assert_eq!((changes.added.len(), engine.in_force()), (5, 1), "{changes:?}");
    let changes = engine.change(vec![News::Pod("3".into(), None)]);
    assert_eq!((changes.removed.len(), engine.contents().len()), (5, 0));
}

#[test]
fn one_more_peer_is_one_element() {
    let mut engine = Engine::default();
    engine.replace(vec![among("x"), news(pod(1, "x", true)), news(pod(2, "x", false))]);
    let changes = engine.change(vec![news(pod(3, "x", false))]);
    assert_eq!((changes.removed.len(), changes.added.len()), (0, 1));
    assert!(engine.change(vec![news(pod(3, "x", false))]).is_empty());
}

#[test]
fn who_was_let_in_last_has_the_address() {
    let mut engine = Engine::default();
    engine.replace(vec![among("x"), news(pod(1, "x", true)), news(pod(2, "y", false))]);
    let (_, old) = pod(2, "y", false);
    let new = PolicyPod { namespace: "x".into(), here: true, order: 1, ..old };
    engine.change(vec![News::Pod("new".into(), Some(new))]);
    let address = IpAddr::from([10, 0, 0, 2]);
    assert!(engine.contents().contains_key(&Slot::Pod(Direction::Ingress, address)));
    engine.change(vec![News::Pod("2".into(), None)]);
    assert!(
        engine.contents().contains_key(&Slot::Pod(Direction::Ingress, address)),
        "it is not the old one's"
    );
    engine.change(vec![News::Pod("new".into(), None)]);
    assert!(!engine.contents().contains_key(&Slot::Pod(Direction::Ingress, address)));
}
