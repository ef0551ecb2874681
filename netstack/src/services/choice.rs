//! Who of a port's endpoints may be asked on this node.

use super::model::{Endpoint, Family, NodeView, ServicePort, Target};
use std::collections::BTreeSet;

/// The endpoints of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// For clients who may ask any.
    pub(super) cluster: BTreeSet<Target>,
    /// For clients who may only ask those of this node.
    pub(super) local: BTreeSet<Target>,
    /// Of both, what is on this node.
    pub(super) here: BTreeSet<Target>,
}

/// Those that are ready; if none is, those that end and still answer. Of those that are ready,
/// the ones for this node or zone, if each says for whom it is and one of them is for here.
pub(super) fn choose(port: &ServicePort, family: Family, node: &NodeView) -> Choice {
    let all: Vec<&Endpoint> =
        port.endpoints.iter().filter(|e| Family::of(e.target.address) == family).collect();
    let is_here = |endpoint: &&Endpoint| endpoint.node.as_ref() == Some(&node.name);
    let here: Vec<&Endpoint> = all.iter().copied().filter(is_here).collect();
    let cluster = near(usable(&all), node);
    let local = usable(&here);
    let targets = |endpoints: &[&Endpoint]| endpoints.iter().map(|e| e.target).collect::<BTreeSet<_>>();
    let (cluster, local) = (targets(&cluster), targets(&local));
    let here = targets(&here).into_iter().filter(|t| cluster.contains(t) || local.contains(t)).collect();
    Choice { cluster, local, here }
}

fn usable<'a>(endpoints: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    let ready: Vec<_> = endpoints.iter().copied().filter(|e| e.ready).collect();
    if ready.is_empty() {
        return endpoints.iter().copied().filter(|e| e.serving && e.terminating).collect();
    }
    ready
}

fn near<'a>(usable: Vec<&'a Endpoint>, node: &NodeView) -> Vec<&'a Endpoint> {
    if !usable.iter().any(|e| e.ready) {
        return usable;
    }
    let for_here = |hints: fn(&Endpoint) -> &[String], here: &String| {
        let all_say = usable.iter().all(|e| !hints(e).is_empty());
        let chosen: Vec<_> = usable.iter().copied().filter(|e| hints(e).contains(here)).collect();
        (all_say && !chosen.is_empty()).then_some(chosen)
    };
    let by_node = for_here(|e| &e.nodes, &node.name);
    let by_zone = || for_here(|e| &e.zones, node.zone.as_ref()?);
    by_node.or_else(by_zone).unwrap_or(usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::testing::{endpoint, port};

    fn names(targets: &BTreeSet<Target>) -> Vec<u8> {
        let last = |target: &Target| match target.address {
            std::net::IpAddr::V4(address) => address.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        targets.iter().map(last).collect()
    }

    fn chosen(endpoints: Vec<Endpoint>) -> (Vec<u8>, Vec<u8>) {
        let node = NodeView { name: "here".into(), zone: Some("red".into()) };
        let choice = choose(&port(endpoints), Family::V4, &node);
        (names(&choice.cluster), names(&choice.local))
    }

    #[test]
    fn only_what_is_ready_is_asked_and_if_nothing_is_what_ends() {
        let unready = |last| Endpoint { ready: false, serving: false, ..endpoint(last) };
        let ending = |last| Endpoint { ready: false, terminating: true, ..endpoint(last) };
        let gone = |last| Endpoint { serving: false, ..ending(last) };
        assert_eq!(chosen(vec![endpoint(1), unready(2), ending(3)]).0, [1]);
        assert_eq!(chosen(vec![unready(2), ending(3), gone(4)]).0, [3]);
        assert!(chosen(vec![unready(2), gone(4)]).0.is_empty());
    }

    #[test]
    fn what_ends_here_answers_local_clients_though_others_are_ready_elsewhere() {
        let here = |e: Endpoint| Endpoint { node: Some("here".into()), ..e };
        let ending = |last| Endpoint { ready: false, terminating: true, ..endpoint(last) };
        assert_eq!(chosen(vec![endpoint(1), here(ending(2))]), (vec![1], vec![2]));
        assert_eq!(chosen(vec![endpoint(1), here(endpoint(2))]), (vec![1, 2], vec![2]));
        assert_eq!(chosen(vec![endpoint(1)]), (vec![1], vec![]));
    }

    #[test]
    fn hints_are_followed_if_all_have_them_and_one_is_for_here() {
        let zone = |last, zone: &str| Endpoint { zones: vec![zone.into()], ..endpoint(last) };
        let node = |last, node: &str| Endpoint { nodes: vec![node.into()], ..zone(last, "red") };
        assert_eq!(chosen(vec![zone(1, "red"), zone(2, "blue")]).0, [1]);
        assert_eq!(chosen(vec![zone(1, "red"), endpoint(2)]).0, [1, 2], "one says nothing");
        assert_eq!(chosen(vec![zone(1, "green"), zone(2, "blue")]).0, [1, 2], "none is for here");
        assert_eq!(chosen(vec![node(1, "here"), node(2, "there")]).0, [1]);
        assert_eq!(chosen(vec![node(1, "far"), node(2, "there")]).0, [1, 2], "the zone has both");
        let ready = Endpoint { ready: false, ..zone(2, "red") };
        assert_eq!(chosen(vec![zone(1, "blue"), ready]).0, [1], "who is not ready has no say");
    }
}
