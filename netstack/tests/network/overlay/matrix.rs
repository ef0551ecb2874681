//! Who reaches whom, and as whom: everybody asks everybody, and a table says what came of it.

use super::site::{
    ANSWERS, Answer, Case, DEADLINE, Ground, NODE_PORT, Node, VXLAN, ask, service_addresses, tell_all,
};
use super::{SECRET, has_wireguard};
use crate::machine::{Pod, on_fresh_machine};
use netstack::Backend;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long nobody answers where nobody should.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often a service is asked, at most, until each of its endpoints has answered.
const TRIES: usize = 300;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Whoever asks is seen with its own address.
    Itself,
    /// A pod, with its node's.
    AsNode,
    /// A pod or a node, with that of the node's bridge.
    AsBridge,
    /// With the address of the node whose port was asked.
    AsAskedNode,
    /// With that of its bridge.
    AsAskedBridge,
    /// Nobody answers.
    NoWay,
    /// Anything else.
    Astray,
}

const LEGEND: &str = "\
= as itself   n as its node   b as its node's bridge   . no way
N as the node that was asked   B as the bridge of that node   ! NOT AS IT SHOULD BE
Left of the slash by IPv4, right by IPv6; of services, the endpoints p0, p1 and p2 one by one.
";

impl Seen {
    const fn letter(self) -> char {
        match self {
            Self::Itself => '=',
            Self::AsNode => 'n',
            Self::AsBridge => 'b',
            Self::AsAskedNode => 'N',
            Self::AsAskedBridge => 'B',
            Self::NoWay => '.',
            Self::Astray => '!',
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Node,
    Outside,
}

/// Somebody who asks, and is asked.
struct Party<'a> {
    name: String,
    kind: Kind,
    place: &'a Pod,
    own: Vec<IpAddr>,
    /// The node that it is, or is on.
    node: Option<&'a Node>,
}

/// Who or what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Party(usize),
    /// The service's own address.
    Service,
    /// The service, by the port of that node.
    NodePort(usize),
}

/// All that there is.
struct Field<'a> {
    case: Case,
    nodes: &'a [Node],
    parties: Vec<Party<'a>>,
}

fn of_family(addresses: &[IpAddr], v6: bool) -> IpAddr {
    *addresses.iter().find(|address| address.is_ipv6() == v6).unwrap()
}

impl<'a> Field<'a> {
    fn new(case: Case, nodes: &'a [Node], outside: &'a Pod) -> Self {
        let mut parties = Vec::new();
        for node in nodes {
            parties.extend(node.pods.iter().map(|(name, place, own)| Party {
                name: name.clone(),
                kind: Kind::Pod,
                place,
                own: own.clone(),
                node: Some(node),
            }));
        }
        parties.extend(nodes.iter().map(|node| Party {
            name: format!("n{}", node.number),
            kind: Kind::Node,
            place: &node.place,
            own: node.addresses.clone(),
            node: Some(node),
        }));
        let (name, own) = ("out".to_owned(), case.outside());
        parties.push(Party { name, kind: Kind::Outside, place: outside, own, node: None });
        Self { case, nodes, parties }
    }

    fn asked(&self) -> Vec<Asked> {
        let parties = (0..self.parties.len()).map(Asked::Party);
        parties.chain([Asked::Service]).chain((0..self.nodes.len()).map(Asked::NodePort)).collect()
    }

    fn name(&self, asked: Asked) -> String {
        match asked {
            Asked::Party(party) => self.parties[party].name.clone(),
            Asked::Service => "service".to_owned(),
            Asked::NodePort(node) => format!("n{node}:port"),
        }
    }

    fn address(&self, asked: Asked, v6: bool) -> SocketAddr {
        match asked {
            Asked::Party(party) => SocketAddr::new(of_family(&self.parties[party].own, v6), ANSWERS),
            Asked::Service => SocketAddr::new(of_family(&service_addresses(), v6), 80),
            Asked::NodePort(node) => SocketAddr::new(of_family(&self.nodes[node].addresses, v6), NODE_PORT),
        }
    }

    /// Who may answer.
    fn answerers(&self, asked: Asked) -> Vec<usize> {
        match asked {
            Asked::Party(party) => vec![party],
            Asked::Service | Asked::NodePort(_) => {
                (0..self.parties.len()).filter(|party| self.parties[*party].name.starts_with('p')).collect()
            }
        }
    }

    /// A packet for pods finds from one node to the other.
    fn leads(&self, from: Option<&Node>, to: Option<&Node>) -> bool {
        let (Some(from), Some(to)) = (from, to) else { return false };
        let by_routers = (self.case.ground, self.case.backend) == (Ground::Routed, Backend::HostGateway);
        from.number == to.number || !by_routers
    }

    /// What should become of it when `asker` asks, and `answerer` is who is led to.
    fn wanted(&self, asker: &Party<'_>, asked: Asked, answerer: &Party<'_>) -> Seen {
        let entered = match asked {
            Asked::Party(_) => return self.wanted_of_party(asker, answerer),
            Asked::Service => asker.node,
            Asked::NodePort(node) => Some(&self.nodes[node]),
        };
        if !self.leads(entered, answerer.node) {
            return Seen::NoWay;
        }
        let number = |node: Option<&Node>| node.map(|node| node.number);
        let is_led_on = number(entered) != number(answerer.node);
        let by_tunnel = self.case.backend != Backend::HostGateway;
        if number(asker.node) != number(entered) {
            // It comes from outside of that node.
            return match (is_led_on, by_tunnel) {
                (false, _) if asker.kind == Kind::Pod => Seen::AsNode,
                (false, _) => Seen::Itself,
                (true, true) => Seen::AsAskedBridge,
                (true, false) => Seen::AsAskedNode,
            };
        }
        match asker.kind {
            // An answer to itself would not come back by the bridge.
            Kind::Pod if asker.name == answerer.name => Seen::AsBridge,
            Kind::Node if asked == Asked::Service || (is_led_on && by_tunnel) => Seen::AsBridge,
            Kind::Pod | Kind::Node | Kind::Outside => Seen::Itself,
        }
    }

    fn wanted_of_party(&self, asker: &Party<'_>, answerer: &Party<'_>) -> Seen {
        let is_here = asker.node.map(|node| node.number) == answerer.node.map(|node| node.number);
        match (asker.kind, answerer.kind) {
            (_, Kind::Pod) if !self.leads(asker.node, answerer.node) => Seen::NoWay,
            (Kind::Node, Kind::Pod) => Seen::AsBridge,
            (Kind::Pod, Kind::Node | Kind::Outside) if !is_here => Seen::AsNode,
            (Kind::Pod | Kind::Node | Kind::Outside, Kind::Pod | Kind::Node | Kind::Outside) => Seen::Itself,
        }
    }

    fn judge(&self, asker: &Party<'_>, asked: Asked, seen: IpAddr) -> Seen {
        let is = |addresses: &[IpAddr]| addresses.contains(&seen);
        let of_asked = |addresses: fn(&Node) -> Vec<IpAddr>| match asked {
            Asked::NodePort(node) => is(&addresses(&self.nodes[node])),
            Asked::Party(_) | Asked::Service => false,
        };
        let bridge = |node: &Node| node.network.gateways();
        if is(&asker.own) {
            Seen::Itself
        } else if asker.node.is_some_and(|node| is(&node.addresses)) {
            Seen::AsNode
        } else if asker.node.is_some_and(|node| is(&bridge(node))) {
            Seen::AsBridge
        } else if of_asked(|node| node.addresses.clone()) {
            Seen::AsAskedNode
        } else if of_asked(bridge) {
            Seen::AsAskedBridge
        } else {
            Seen::Astray
        }
    }

    /// The letters of a cell's half, one for each who may answer; and what is wrong with it.
    fn cell(&self, asker: &Party<'_>, asked: Asked, v6: bool) -> (String, Option<String>) {
        let answerers = self.answerers(asked);
        let wanted: BTreeMap<IpAddr, Seen> = answerers
            .iter()
            .map(|party| &self.parties[*party])
            .map(|party| (of_family(&party.own, v6), self.wanted(asker, asked, party)))
            .collect();
        let some_have_no_way = wanted.values().any(|seen| *seen == Seen::NoWay);
        let patience = if some_have_no_way { PATIENCE } else { DEADLINE };
        let is_left = |came: &BTreeMap<IpAddr, Answer>, failed: bool| {
            let are_left = wanted.iter().any(|(by, seen)| *seen != Seen::NoWay && !came.contains_key(by));
            are_left || (some_have_no_way && !failed)
        };
        let (mut came, mut failed) = (BTreeMap::new(), false);
        for _ in 0..TRIES {
            if !is_left(&came, failed) {
                break;
            }
            match ask(asker.place, self.address(asked, v6), patience) {
                Ok(answer) => {
                    let seen = self.judge(asker, asked, answer.seen);
                    came.insert(answer.by, answer);
                    if wanted.get(&answer.by) != Some(&seen) {
                        return (
                            "!".repeat(wanted.len()),
                            Some(format!("{answer:?} is {seen:?}: {wanted:?}")),
                        );
                    }
                }
                Err(_) if some_have_no_way => failed = true,
                Err(why) => return ("!".repeat(wanted.len()), Some(format!("{why}: {wanted:?}"))),
            }
        }
        if is_left(&came, failed) {
            return ("!".repeat(wanted.len()), Some(format!("only {came:?} came, {failed}: {wanted:?}")));
        }
        let letter = |party: &usize| wanted[&of_family(&self.parties[*party].own, v6)].letter();
        (answerers.iter().map(letter).collect(), None)
    }

    /// A line of the table, and what is wrong in it.
    fn row(&self, asker: &Party<'_>) -> (String, Vec<String>) {
        let (mut row, mut wrong) = (format!("{:<4}", asker.name), Vec::new());
        for asked in self.asked() {
            let halves = [false, true].map(|v6| {
                let (letters, fault) = self.cell(asker, asked, v6);
                let to = self.address(asked, v6);
                wrong.extend(fault.map(|fault| format!("{} asks {to}: {fault}", asker.name)));
                letters
            });
            let _ = write!(row, " {:<width$}", halves.join("/"), width = self.width(asked));
        }
        (row.trim_end().to_owned() + "\n", wrong)
    }

    fn width(&self, asked: Asked) -> usize {
        self.name(asked).len().max(2 * self.answerers(asked).len() + 1)
    }

    fn title(&self) -> String {
        let Case { ground, backend, over_v6 } = self.case;
        let ground = match ground {
            Ground::Flat => "one link",
            Ground::Routed => "a router between nodes",
        };
        let backend = match backend {
            Backend::Vxlan { .. } => "vxlan",
            Backend::Wireguard { .. } => "wireguard",
            Backend::HostGateway => "host-gw",
            Backend::None => "none",
        };
        format!("{backend}, {ground}, nodes know one another by IPv{}", if over_v6 { 6 } else { 4 })
    }

    /// The table, and what is wrong in it. All ask at once.
    fn table(&self) -> (String, Vec<String>) {
        let mut table = format!("\n{}\n    ", self.title());
        for asked in self.asked() {
            let _ = write!(table, " {:<width$}", self.name(asked), width = self.width(asked));
        }
        table = table.trim_end().to_owned() + "\n";
        let rows: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                self.parties.iter().map(|asker| scope.spawn(move || self.row(asker))).collect();
            asking.into_iter().map(|row| row.join().unwrap()).collect()
        });
        let mut wrong = Vec::new();
        for (row, faults) in rows {
            table += &row;
            wrong.extend(faults);
        }
        (table + LEGEND, wrong)
    }
}

/// Three nodes with two pods each; prints who reaches whom, and fails where that is not as it should be.
fn all_reach_all(case: Case) {
    on_fresh_machine(async move |host| {
        let mut nodes = case.nodes(&host, 3).await;
        for node in &mut nodes {
            node.add_pod(&format!("q{}", node.number)).await;
            node.place.run(tell_all);
        }
        host.run(tell_all);
        let (table, wrong) = Field::new(case, &nodes, &host).table();
        // Past what catches the words of tests that pass.
        std::io::stdout().lock().write_all(table.as_bytes()).unwrap();
        assert!(wrong.is_empty(), "{table}{wrong:#?}");
        if case.backend == VXLAN {
            let mtu = nodes[1].pods[0].1.run(|| {
                let show = ["ip", "link", "show", "eth0"];
                let output = std::process::Command::new("busybox").args(show).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            });
            let wanted = if case.over_v6 { "mtu 1430" } else { "mtu 1450" };
            assert!(mtu.contains(wanted), "{mtu}");
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_on_one_link_by_vxlan() {
    all_reach_all(Case { ground: Ground::Flat, backend: VXLAN, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_past_a_router_by_vxlan() {
    all_reach_all(Case { ground: Ground::Routed, backend: VXLAN, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_past_a_router_by_vxlan_over_ipv6() {
    all_reach_all(Case { ground: Ground::Routed, backend: VXLAN, over_v6: true });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_on_one_link_by_routes() {
    all_reach_all(Case { ground: Ground::Flat, backend: Backend::HostGateway, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn past_a_router_that_knows_no_pods_routes_lead_to_those_of_the_same_node_only() {
    all_reach_all(Case { ground: Ground::Routed, backend: Backend::HostGateway, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_in_secret() {
    for ground in [Ground::Flat, Ground::Routed] {
        for over_v6 in [false, true] {
            if has_wireguard() {
                all_reach_all(Case { ground, backend: SECRET, over_v6 });
            }
        }
    }
}
