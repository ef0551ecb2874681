//! The policies of the table: every direction with every kind of peers and every kind of ports, and
//! what several policies come to together.

use super::api::{Peer, Policy, PolicyName, Ports, Protocol, Rule};
use super::cluster::{allow, block, labelled, of_namespace, pods, policy};
use netstack::policies::{Requirement, Selector};

/// The policies that are there at one time.
type State = Vec<(PolicyName, Policy)>;

fn peers() -> Vec<Vec<Peer>> {
    let in_namespaces =
        |namespaces: Selector, pods: Selector| Peer::Pods { namespaces: Some(namespaces), pods };
    let not = |key: &str, value: &str| Selector(vec![Requirement::NotIn(key.into(), vec![value.into()])]);
    vec![
        vec![],
        vec![pods("", "")],
        vec![pods("pod", "b")],
        vec![in_namespaces(labelled("", ""), labelled("", ""))],
        vec![in_namespaces(labelled("ns", "y"), labelled("", ""))],
        vec![of_namespace("kubernetes.io/metadata.name", "z", "pod", "c")],
        vec![in_namespaces(not("ns", "x"), not("pod", "a"))],
        vec![pods("pod", "a"), of_namespace("ns", "y", "pod", "b"), block("10.88.0.8/30", &[])],
        vec![block("10.88.0.0/24", &["10.88.0.4/31", "10.88.0.9/32"]), block("fd88::/64", &["fd88::8/125"])],
        vec![Peer::Pods { namespaces: None, pods: Selector(vec![Requirement::Exists("none".into())]) }],
    ]
}

fn ports() -> Vec<Vec<Ports>> {
    vec![
        vec![],
        vec![Ports::Range(Protocol::Tcp, 80, 80)],
        vec![Ports::Range(Protocol::Udp, 81, 81), Ports::Range(Protocol::Tcp, 81, 81)],
        vec![
            Ports::Named(Protocol::Tcp, "serve-81-tcp".into()),
            Ports::Named(Protocol::Udp, "serve-80-udp".into()),
        ],
        vec![
            Ports::Range(Protocol::Tcp, 70, 80),
            Ports::Range(Protocol::Tcp, 79, 85),
            Ports::All(Protocol::Udp),
        ],
        vec![Ports::Named(Protocol::Udp, "serve-80-tcp".into())],
    ]
}

fn named(namespace: &str, name: &str, policy: Policy) -> (PolicyName, Policy) {
    (PolicyName { namespace: namespace.into(), name: name.into() }, policy)
}

/// Each has one policy in each namespace, so that they meet.
fn product() -> Vec<State> {
    let selected = [labelled("pod", "a"), labelled("", ""), labelled("pod", "c")];
    let mut all = Vec::new();
    for peers in peers() {
        for ports in ports() {
            for ingress in [true, false] {
                let rules = Some(vec![allow(peers.clone(), ports.clone())]);
                let pods = selected[all.len() % 3].clone();
                let (ingress, egress) = if ingress { (rules, None) } else { (None, rules) };
                all.push(Policy { pods, ingress, egress });
            }
        }
    }
    // Strides, so that what comes together is not alike.
    let third = all.len() / 3;
    let state = |n: usize| {
        let of = |namespace: &str, at: usize| named(namespace, "one", all[at].clone());
        vec![of("x", n), of("y", third + (n * 7 + 3) % third), of("z", 2 * third + (n * 11 + 5) % third)]
    };
    (0..third).map(state).collect()
}

/// What policies come to together, and what is empty.
fn together() -> Vec<State> {
    let all = || allow(vec![], vec![]);
    let everything = |ingress, egress| Policy { pods: labelled("", ""), ingress, egress };
    let only =
        |peer: Peer, port: u16| -> Rule { allow(vec![peer], vec![Ports::Range(Protocol::Tcp, port, port)]) };
    vec![
        vec![],
        vec![named("x", "deny", everything(Some(vec![]), None))],
        vec![named("x", "deny", everything(None, Some(vec![])))],
        vec![named("x", "deny", everything(Some(vec![]), Some(vec![])))],
        vec![
            named("x", "deny", everything(Some(vec![]), Some(vec![]))),
            named("x", "allow", everything(Some(vec![all()]), Some(vec![all()]))),
        ],
        vec![
            named("x", "a", policy("a", Some(vec![only(pods("pod", "b"), 80)]), None)),
            named("x", "b", policy("a", Some(vec![only(of_namespace("ns", "y", "pod", "a"), 81)]), None)),
            named("x", "c", everything(Some(vec![only(block("10.88.0.0/28", &[]), 80)]), None)),
        ],
        vec![
            named("x", "out", everything(None, Some(vec![only(of_namespace("ns", "y", "pod", "b"), 80)]))),
            named("y", "in", policy("b", Some(vec![only(of_namespace("ns", "x", "pod", "a"), 80)]), None)),
            named("z", "both", policy("a", Some(vec![]), Some(vec![all()]))),
        ],
    ]
}

pub(crate) fn states() -> Vec<State> {
    together().into_iter().chain(product()).collect()
}
