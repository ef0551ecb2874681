//! What is wanted → elements of the kernel's maps.

use super::choice::choose;
use super::fence::{Fence, fence};
use super::model::{Endpoint, Family, NodeView, Policy, ServicePort, Target, Transport};
use super::way::{MOST, Pick, Pool, Way, seconds};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where clients ask; with the address [`Family::any`], a port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Frontend {
    pub(super) address: IpAddr,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

/// A place in one of the kernel's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    /// What happens to packets for it.
    Service(Frontend),
    /// Who is picked by that number; those of the local pool count from [`LOCAL_POOL`].
    Endpoint(Frontend, u32),
    /// Whom a client may stay with.
    Member(Frontend, Pool, Target),
    /// An address of this node whose owner may ask itself.
    Loop(IpAddr),
    /// By which number it is said who may ask there.
    Fence(Frontend),
    /// Who may ask where that number is: from one address to another.
    Source(u32, IpAddr, IpAddr),
    /// An address that a load balancer gave.
    Balanced(IpAddr),
}

/// The first number of the local pool's endpoints.
pub(super) const LOCAL_POOL: u32 = 1 << 31;

impl Slot {
    /// Whose map it is in.
    pub(super) fn family(&self) -> Family {
        match self {
            Self::Service(f) | Self::Endpoint(f, _) | Self::Member(f, ..) | Self::Fence(f) => {
                Family::of(f.address)
            }
            Self::Loop(address) | Self::Source(_, address, _) | Self::Balanced(address) => {
                Family::of(*address)
            }
        }
    }
}

/// What is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// For packets from pods of this node, from elsewhere, and from the node itself.
    Ways([Way; 3]),
    Target(Target),
    Number(u32),
    Nothing,
}

/// All elements.
pub(super) type Contents = BTreeMap<Slot, Content>;

/// What is wanted of one frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    ways: [Way; 3],
    cluster: BTreeSet<Target>,
    local: BTreeSet<Target>,
    /// Addresses of pods of this node among them.
    pub(super) here: BTreeSet<IpAddr>,
    /// A load balancer gave the address.
    pub(super) is_balanced: bool,
    /// Who may ask, if not everybody.
    pub(super) fence: Option<Fence>,
}

/// The frontends of a port, with what is wanted of each.
pub(super) fn plans(port: &ServicePort, node: &NodeView) -> Vec<(Frontend, Plan)> {
    let mut plans = Vec::new();
    for family in Family::ALL {
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        let inside: Vec<_> = port.cluster_addresses.iter().filter(of_family).copied().collect();
        let balanced: Vec<_> = port.balancer.addresses.iter().filter(of_family).copied().collect();
        let mut outside: Vec<_> =
            port.external_addresses.iter().filter(of_family).map(|a| (*a, port.port)).collect();
        if let Some(node_port) = port.node_port.filter(|_| !inside.is_empty()) {
            outside.push((family.any(), node_port));
        }
        if inside.is_empty() && outside.is_empty() && balanced.is_empty() {
            continue;
        }
        let mut choice = choose(port, family, node);
        limit(&mut choice.cluster);
        limit(&mut choice.local);
        let picks = Picks { port, cluster: choice.cluster.len(), local: choice.local.len() };
        let here: BTreeSet<_> = choice.here.iter().map(|target| target.address).collect();
        let mut add = |address, port_number, ways: [Way; 3]| {
            let uses = |pool| ways.iter().any(|way| matches!(way, Way::Pick(pick) if pick.pool == pool));
            let of =
                |pool, targets: &BTreeSet<Target>| if uses(pool) { targets.clone() } else { BTreeSet::new() };
            let (cluster, local) = (of(Pool::Cluster, &choice.cluster), of(Pool::Local, &choice.local));
            let frontend = Frontend { address, transport: port.transport, port: port_number };
            let (here, is_balanced) = (here.clone(), balanced.contains(&address));
            let fence = if is_balanced { fence(&port.balancer.sources, family) } else { None };
            plans.push((frontend, Plan { ways, cluster, local, here, is_balanced, fence }));
        };
        for address in inside {
            add(address, port.port, picks.inside());
        }
        for address in balanced.iter().copied() {
            add(address, port.port, picks.outside(false));
        }
        for (address, number) in outside {
            add(address, number, picks.outside(address == family.any()));
        }
    }
    plans
}

fn limit(targets: &mut BTreeSet<Target>) {
    while targets.len() > MOST {
        targets.pop_last();
    }
}

struct Picks<'a> {
    port: &'a ServicePort,
    cluster: usize,
    local: usize,
}

impl Picks<'_> {
    fn inside(&self) -> [Way; 3] {
        [self.way(self.port.internal, false, false); 3]
    }

    /// Who comes from outside is bound by the policy; pods and the node itself are not.
    fn outside(&self, at_node: bool) -> [Way; 3] {
        let from_pod = self.way(Policy::Cluster, at_node, false);
        let from_node = self.way(Policy::Cluster, at_node, true);
        let from_elsewhere = self.way(self.port.external, at_node, self.port.external == Policy::Cluster);
        [from_pod, from_elsewhere, from_node]
    }

    fn way(&self, policy: Policy, at_node: bool, masquerade: bool) -> Way {
        let (count, pool) = match policy {
            Policy::Cluster => (self.cluster, Pool::Cluster),
            Policy::Local => (self.local, Pool::Local),
        };
        match u16::try_from(count) {
            Ok(0) | Err(_) if self.cluster == 0 => Way::Refuse,
            // Others could answer: the client shall ask another node, or again.
            Ok(0) | Err(_) => Way::Drop,
            Ok(count) => {
                let sticky = seconds(self.port.affinity);
                Way::Pick(Pick { count, at_node, pool, masquerade, sticky })
            }
        }
    }
}

/// The elements of a frontend, around which is the fence of that number. Endpoints that are in `held`
/// stay where they are, so that few elements change.
pub(super) fn elements(
    frontend: Frontend,
    plan: &Plan,
    fence: Option<u32>,
    held: &Contents,
) -> Vec<(Slot, Content)> {
    let mut elements = vec![(Slot::Service(frontend), Content::Ways(plan.ways))];
    elements.extend(fence.map(|number| (Slot::Fence(frontend), Content::Number(number))));
    let sticky = plan.ways.iter().any(|way| matches!(way, Way::Pick(pick) if pick.sticky > 0));
    for (pool, base, targets) in [(Pool::Cluster, 0, &plan.cluster), (Pool::Local, LOCAL_POOL, &plan.local)] {
        let at = |number| match held.get(&Slot::Endpoint(frontend, base + number)) {
            Some(Content::Target(target)) => Some(*target),
            Some(Content::Ways(_) | Content::Number(_) | Content::Nothing) | None => None,
        };
        let numbers = 0..u32::try_from(targets.len()).unwrap_or(u32::MAX);
        for (number, target) in numbers.clone().zip(place(targets, numbers.map(at))) {
            elements.push((Slot::Endpoint(frontend, base + number), Content::Target(target)));
            if sticky {
                elements.push((Slot::Member(frontend, pool, target), Content::Nothing));
            }
        }
    }
    elements
}

/// The targets in an order in which each that has a place keeps it.
fn place(targets: &BTreeSet<Target>, held: impl Iterator<Item = Option<Target>>) -> Vec<Target> {
    let mut left = targets.clone();
    let mut places: Vec<Option<Target>> =
        held.map(|target| target.filter(|target| left.remove(target))).collect();
    let mut left = left.into_iter();
    for place in &mut places {
        if place.is_none() {
            *place = left.next();
        }
    }
    places.into_iter().flatten().collect()
}

impl Endpoint {
    /// One that is ready, on no node that is known.
    #[must_use]
    pub fn ready(target: Target) -> Self {
        Self {
            target,
            node: None,
            ready: true,
            serving: true,
            terminating: false,
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    }
}
