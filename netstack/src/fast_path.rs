//! The fast path: packets of connections between pods that netfilter has let pass, and left as they are, leave as those
//! before them did, past the bridge, netfilter, connection tracking and routes.
//!
//! What decides stays netfilter: `rules` mark what it knows and does not change, on its way out. `programs`, which the
//! kernel asks at pods' links and at those that lead to other nodes, remember where that went, and for a second send
//! what is like it there (`flow`); then a packet goes the long way again. What begins or ends a connection always does.
//! So services, policies and everything that others put into nftables hold as they do without it, and connection
//! tracking knows of every connection that there is. `assembler` writes the programs.
//!
//! All of it stays in force while no agent runs. An agent that starts has its own take the places of those before.

mod assembler;
mod flow;
mod programs;
mod rules;

pub use flow::Flow;

use crate::sys::bpf::{self, Name, Side};
use crate::sys::link::{self, Link};
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::{INET, Table};
use crate::{chain, names};
use nix::errno::Errno;
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// What the kernel lacks.
const TOO_OLD: &str = "links have no place for programs (tcx) before Linux 6.6";

/// The fast path of a bridge's pods. Clones are the same one.
#[derive(Debug, Clone)]
pub struct FastPath(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Name,
    flows: OwnedFd,
    here: Programs,
    away: Programs,
    /// The links to other nodes that it is on; none if that is not known.
    ways: Mutex<Option<BTreeSet<u32>>>,
}

/// What links to pods are asked, or those to other nodes.
#[derive(Debug)]
struct Programs {
    /// Of what comes.
    take: Program,
    /// Of what goes.
    learn: Program,
}

#[derive(Debug)]
struct Program {
    id: u32,
    descriptor: OwnedFd,
}

impl PartialEq for FastPath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for FastPath {}

impl FastPath {
    /// What there is to be asked is there, and nothing asks it yet. Acts in the network namespace of the calling thread.
    /// Needs `CAP_BPF` and `CAP_NET_ADMIN`. Blocks for as long as the kernel works.
    ///
    /// # Errors
    /// The kernel's: `Unsupported` before Linux 6.6.
    pub(crate) fn open(bridge: &str, index: u32) -> io::Result<Self> {
        bpf::attached(index, Side::Ingress).map_err(|error| match error.raw_os_error() {
            Some(number) if number == Errno::EINVAL as i32 => {
                io::Error::new(io::ErrorKind::Unsupported, TOO_OLD)
            }
            _ => error,
        })?;
        let name = Name::of(&names::program_of(bridge));
        let flows = bpf::create_map(name, flow::SIZE)?;
        let load = |written: Option<Vec<bpf::Instruction>>| {
            let program = written.ok_or(io::ErrorKind::InvalidData)?;
            let descriptor = bpf::load_classifier(name, &program)?;
            Ok::<_, io::Error>(Program { id: bpf::describe(descriptor.as_fd())?.id, descriptor })
        };
        let load_both = |away| {
            let (take, learn) = (programs::take(flows.as_fd(), away), programs::learn(flows.as_fd(), away));
            Ok::<_, io::Error>(Programs { take: load(take)?, learn: load(learn)? })
        };
        let (here, away) = (load_both(false)?, load_both(true)?);
        let inner = Inner { name, flows, here, away, ways: Mutex::default() };
        let mut socket = Socket::open()?;
        chain::ensure(&mut socket, Table { family: INET, name: &table_of(bridge) }, &rules::chain(bridge))?;
        Ok(Self(Arc::new(inner)))
    }

    /// What the pod of that link sends takes the fast path; what it receives, unless its link is told how fast it may be.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn join(&self, pod: &Link) -> io::Result<()> {
        let learn = (!is_shaped(pod)).then_some(&self.0.here.learn);
        self.0.put((pod.index, Side::Egress), learn)?;
        self.0.put((pod.index, Side::Ingress), Some(&self.0.here.take))
    }

    /// Exactly those links lead to other nodes. Repeating is harmless and repairs.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn lead(&self, handle: &Handle, links: BTreeSet<u32>) -> io::Result<()> {
        let ways = || self.0.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ways().clone();
        let known = match known {
            Some(known) => known,
            // An agent before this one may have had others.
            None => link::list(handle)
                .await?
                .iter()
                .filter(|link| !is_pods(link))
                .map(|link| link.index)
                .collect(),
        };
        for gone in known.difference(&links) {
            self.0.put((*gone, Side::Ingress), None)?;
            self.0.put((*gone, Side::Egress), None)?;
        }
        for link in &links {
            self.0.put((*link, Side::Egress), Some(&self.0.away.learn))?;
            self.0.put((*link, Side::Ingress), Some(&self.0.away.take))?;
        }
        *ways() = Some(links);
        Ok(())
    }

    /// What it remembers, in no order: connections in one direction each, some of which have ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flows(&self) -> io::Result<Vec<Flow>> {
        let entries = bpf::entries(self.0.flows.as_fd(), flow::SIZE)?;
        Ok(entries.iter().filter_map(|(key, value)| Flow::read(key, value)).collect())
    }
}

impl Inner {
    /// The link has that program of ours there and no other, or none.
    fn put(&self, place: (u32, Side), wanted: Option<&Program>) -> io::Result<()> {
        match change(self.name, place, wanted) {
            // The link is gone.
            Err(error) if is(&error, Errno::ENODEV) && wanted.is_none() => Ok(()),
            other => other,
        }
    }
}

fn change(name: Name, (link, side): (u32, Side), wanted: Option<&Program>) -> io::Result<()> {
    let there = bpf::attached(link, side)?.into_iter().find(|program| program.name == name);
    match (there, wanted) {
        (None, None) => Ok(()),
        (Some(there), Some(wanted)) if there.id == wanted.id => Ok(()),
        (Some(there), Some(wanted)) => {
            let before = bpf::open(there.id)?;
            bpf::attach((link, side), wanted.descriptor.as_fd(), Some(before.as_fd()))
        }
        (None, Some(wanted)) => bpf::attach((link, side), wanted.descriptor.as_fd(), None),
        (Some(there), None) => bpf::detach((link, side), bpf::open(there.id)?.as_fd()),
    }
}

/// There is no fast path for that bridge's pods, if there was one. Returns whether there was.
///
/// # Errors
/// The kernel's.
pub(crate) async fn close(handle: &Handle, bridge: &str) -> io::Result<bool> {
    let table = table_of(bridge);
    let nothing = chain::Chain { rules: Vec::new(), ..rules::chain(bridge) };
    // Who marks goes first: what is not marked is not learnt.
    if !chain::ensure(&mut Socket::open()?, Table { family: INET, name: &table }, &nothing)? {
        return Ok(false);
    }
    let name = Name::of(&names::program_of(bridge));
    for link in link::list(handle).await? {
        for side in [Side::Ingress, Side::Egress] {
            match change(name, (link.index, side), None) {
                Err(error) if is(&error, Errno::ENODEV) => {}
                other => other?,
            }
        }
    }
    Ok(true)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn table_of(bridge: &str) -> String {
    format!("{bridge}-fast")
}

fn is_pods(link: &Link) -> bool {
    link.kind == "veth" && names::is_link(&link.name)
}

/// Whether something is between the node and the link that packets have to wait for.
fn is_shaped(link: &Link) -> bool {
    !["", "noop", "noqueue"].contains(&&*link.queue)
}
