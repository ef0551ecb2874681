//! The services that the kernel keeps at the moment, for people.

use super::look::fill;
use super::model::{Family, Target, Transport};
use super::table::{Content, Contents, Frontend, LOCAL_POOL, Slot};
use super::way::{Pool, Way};
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::{self, Table};
use std::io;
use std::net::IpAddr;

/// Who sends a packet to a service, as its rules tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A pod of this node.
    Pod,
    /// Somebody outside of it.
    Elsewhere,
    /// The node itself.
    Node,
}

/// What becomes of a packet for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// Its sender is told that nobody answers.
    Refused,
    /// Nothing is said: who answers is on other nodes, where the client may not be led.
    Dropped,
    /// It goes to one of these, each as likely as the others.
    OneOf {
        /// Who may be asked.
        targets: Vec<Target>,
        /// It gets an address of this node as its sender's if it leaves the node.
        masquerades: bool,
        /// For how many seconds a client stays with whom it asked; 0 if it does not.
        sticky_seconds: u32,
    },
}

/// All of a node's services.
#[derive(Debug, Default)]
pub struct ServicesInForce(Contents);

impl ServicesInForce {
    /// Those of the node with that bridge. Waits for the kernel; needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(bridge: &str) -> io::Result<Self> {
        let (mut socket, name) = (Socket::open()?, super::table_name(bridge));
        let mut contents = Contents::new();
        for family in Family::ALL {
            let table = Table { family: family.number(), name: &name };
            if nft::has_table(&mut socket, table)? {
                let sets = nft::list_structure(&mut socket, table)?.sets;
                fill(&mut socket, (family, table), &sets, &mut contents)?;
            }
        }
        Ok(Self(contents))
    }

    /// Where a packet goes that `client` sends to that address and port; nothing if it is none of a service.
    #[must_use]
    pub fn lead(&self, client: Client, (transport, target): (Transport, Target)) -> Option<Lead> {
        let at = |address| Frontend { address, transport, port: target.port };
        self.lead_from(client, at(target.address))
    }

    /// The same for a port of the node, of one family.
    #[must_use]
    pub fn lead_of_node_port(
        &self,
        client: Client,
        (transport, family, port): (Transport, Family, u16),
    ) -> Option<Lead> {
        self.lead_from(client, Frontend { address: family.any(), transport, port })
    }

    /// Whether packets from `source` to that address and port are dropped: it is a load balancer's, and
    /// other networks are named that may ask there.
    #[must_use]
    pub fn keeps_out(&self, source: IpAddr, (transport, target): (Transport, Target)) -> bool {
        let frontend = Frontend { address: target.address, transport, port: target.port };
        let Some(Content::Number(number)) = self.0.get(&Slot::Fence(frontend)) else { return false };
        let may = |slot: &Slot| matches!(slot, Slot::Source(of, first, last) if of == number && (first..=last).contains(&&source));
        !self.0.keys().any(may)
    }

    /// How many addresses and ports lead somewhere.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.keys().filter(|slot| matches!(slot, Slot::Service(_))).count()
    }

    fn lead_from(&self, client: Client, frontend: Frontend) -> Option<Lead> {
        let Some(Content::Ways([from_pod, from_elsewhere, from_node])) = self.0.get(&Slot::Service(frontend))
        else {
            return None;
        };
        let way = match client {
            Client::Pod => from_pod,
            Client::Elsewhere => from_elsewhere,
            Client::Node => from_node,
        };
        Some(match way {
            Way::Refuse => Lead::Refused,
            Way::Drop => Lead::Dropped,
            Way::Pick(pick) => {
                let first = if pick.pool == Pool::Local { LOCAL_POOL } else { 0 };
                let numbers = first..first + u32::from(pick.count);
                let target = |number| match self.0.get(&Slot::Endpoint(frontend, number)) {
                    Some(Content::Target(target)) => Some(*target),
                    Some(Content::Ways(_) | Content::Number(_) | Content::Nothing) | None => None,
                };
                Lead::OneOf {
                    targets: numbers.filter_map(target).collect(),
                    masquerades: pick.masquerade,
                    sticky_seconds: pick.sticky,
                }
            }
        })
    }

    /// What is led for an address of services: its ports, sorted.
    pub fn ports_of(&self, address: IpAddr) -> impl Iterator<Item = (Transport, u16)> {
        self.0.keys().filter_map(move |slot| match slot {
            Slot::Service(frontend) if frontend.address == address => {
                Some((frontend.transport, frontend.port))
            }
            Slot::Service(_)
            | Slot::Endpoint(..)
            | Slot::Member(..)
            | Slot::Loop(_)
            | Slot::Fence(_)
            | Slot::Source(..)
            | Slot::Balanced(_) => None,
        })
    }
}
