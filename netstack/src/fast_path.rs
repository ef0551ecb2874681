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

use crate::sys::bpf::{self, Name};
use crate::sys::filter::{self, Filter, Side};
use crate::sys::link::{self, Link};
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::{INET, Table};
use crate::{chain, names};
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The length of a hardware address that frames of Ethernet have.
const MAC_BYTES: usize = 6;

/// The fast path of a bridge's pods. Clones are the same one.
#[derive(Debug, Clone)]
pub struct FastPath(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handle: Handle,
    name: String,
    priority: u16,
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
    take: OwnedFd,
    /// Of what goes.
    learn: OwnedFd,
}

impl PartialEq for FastPath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for FastPath {}

impl FastPath {
    /// Programs are loaded, links can ask them, and what they may learn is marked; no link asks them yet.
    /// Needs `CAP_BPF` and `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// The kernel's: it needs `bpf_redirect_peer` (Linux 5.10) and filters of BPF (`cls_bpf`).
    pub(crate) async fn open(handle: &Handle, bridge: (&str, u32)) -> io::Result<Self> {
        let (bridge, index) = (bridge.0.to_owned(), bridge.1);
        let (name, priority) = (names::program_of(&bridge), names::priority_of(&bridge));
        let flows = bpf::create_map(Name::of(&name), flow::SIZE)?;
        let load = |written: Option<Vec<bpf::Instruction>>| {
            bpf::load_classifier(Name::of(&name), &written.ok_or(io::ErrorKind::InvalidData)?)
        };
        let load_both = |away| {
            let (take, learn) = (programs::take(flows.as_fd(), away), programs::learn(flows.as_fd(), away));
            Ok::<_, io::Error>(Programs { take: load(take)?, learn: load(learn)? })
        };
        let (here, away) = (load_both(false)?, load_both(true)?);
        let inner =
            Inner { handle: handle.clone(), name, priority, flows, here, away, ways: Mutex::default() };
        inner.try_on(index).await?;
        let mark = move || {
            let table = table_of(&bridge);
            chain::ensure(&mut Socket::open()?, Table { family: INET, name: &table }, &rules::chain(&bridge))
        };
        tokio::task::spawn_blocking(mark).await.map_err(io::Error::other)??;
        Ok(Self(Arc::new(inner)))
    }

    /// What the pod of that link sends takes the fast path; what it receives, unless its link is told how fast it may be.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn join(&self, pod: &Link) -> io::Result<()> {
        let Inner { handle, here, .. } = &*self.0;
        filter::ensure_filters(handle, pod.index).await?;
        if is_shaped(pod) {
            filter::ask_nobody(handle, self.0.filter(pod.index, Side::Egress)).await?;
        } else {
            self.0.ask(pod.index, Side::Egress, &here.learn).await?;
        }
        self.0.ask(pod.index, Side::Ingress, &here.take).await
    }

    /// Exactly those links lead to other nodes; those without hardware addresses, which could not be remembered, do so by
    /// the long way. Repeating is harmless and repairs.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn lead(&self, links: BTreeSet<u32>) -> io::Result<()> {
        let Inner { handle, away, .. } = &*self.0;
        let ways = || self.0.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if ways().as_ref() != Some(&links) {
            // An agent before this one may have had others.
            let all = link::list(handle).await?;
            for other in all.iter().filter(|link| !is_pods(link) && !links.contains(&link.index)) {
                self.0.leave(other.index).await?;
            }
        }
        for link in &links {
            let known = link::of(handle, *link).await?;
            if known.is_some_and(|link| link.mac.len() == MAC_BYTES) {
                filter::ensure_filters(handle, *link).await?;
                self.0.ask(*link, Side::Egress, &away.learn).await?;
                self.0.ask(*link, Side::Ingress, &away.take).await?;
            }
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
    const fn filter(&self, link: u32, side: Side) -> Filter {
        Filter { link, side, priority: self.priority }
    }

    async fn ask(&self, link: u32, side: Side, program: &OwnedFd) -> io::Result<()> {
        filter::ask(&self.handle, self.filter(link, side), (program.as_fd(), &self.name)).await
    }

    /// The link asks nobody of ours.
    async fn leave(&self, link: u32) -> io::Result<()> {
        for side in [Side::Ingress, Side::Egress] {
            filter::ask_nobody(&self.handle, self.filter(link, side)).await?;
        }
        Ok(())
    }

    /// Links can ask programs: the bridge does for a moment.
    async fn try_on(&self, bridge: u32) -> io::Result<()> {
        let is_new = filter::ensure_filters(&self.handle, bridge).await?;
        self.ask(bridge, Side::Egress, &self.here.learn).await?;
        self.leave(bridge).await?;
        if is_new { filter::remove_filters(&self.handle, bridge).await } else { Ok(()) }
    }
}

/// There is no fast path for that bridge's pods, if there was one. Links keep the place for filters.
///
/// # Errors
/// The kernel's.
pub(crate) async fn close(handle: &Handle, bridge: &str) -> io::Result<()> {
    let (name, nothing) = (table_of(bridge), chain::Chain { rules: Vec::new(), ..rules::chain(bridge) });
    let unmark = move || chain::ensure(&mut Socket::open()?, Table { family: INET, name: &name }, &nothing);
    // Who marks goes first: what is not marked is not learnt.
    if !tokio::task::spawn_blocking(unmark).await.map_err(io::Error::other)?? {
        return Ok(());
    }
    let priority = names::priority_of(bridge);
    for link in link::list(handle).await? {
        for side in [Side::Ingress, Side::Egress] {
            filter::ask_nobody(handle, Filter { link: link.index, side, priority }).await?;
        }
    }
    Ok(())
}

fn table_of(bridge: &str) -> String {
    format!("{bridge}-fast")
}

fn is_pods(link: &Link) -> bool {
    link.kind == "veth" && names::is_link(&link.name)
}

/// Whether packets have to wait before they leave by the link.
fn is_shaped(link: &Link) -> bool {
    !["", "noop", "noqueue"].contains(&&*link.queue)
}
