//! Policies: who may talk to the pods of this node, and to whom they may.
//!
//! `model` says what is known. `engine` makes elements of the kernel's maps from it (pure), with
//! `scope` (what matters here), `rights` (what rules allow), `blocks` and `numbers`; `slot` compares.
//! `meaning` says what policies mean, for people and for tests. `rules` is the constant part; `wire` are the bytes; `program` does, on a thread of its own with a
//! socket that stays open. All of it stays in force while no agent runs.

mod blocks;
mod engine;
mod look;
mod meaning;
mod model;
mod numbers;
mod program;
mod rights;
mod rules;
mod scope;
mod slot;
mod wire;

pub use look::InForce;
pub use meaning::{Attempt, Judgement, World};
pub use model::{
    Direction, IpBlock, Labels, NamedPort, News, Peer, Policy, PolicyName, PolicyPod, Ports, Requirement,
    Rule, Selector,
};

use crate::sys::ear::Ear;
use crate::sys::{link, socket};
use crate::{bridged, listener};
use nix::errno::Errno;
use program::{Program, Request};
use rtnetlink::Handle;
use std::io;
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

/// Why policies cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum PoliciesError {
    /// No netlink socket, or no thread.
    #[error("cannot talk to the kernel about network policies over netlink")]
    Socket(#[source] io::Error),
    /// There is no such bridge.
    #[error("cannot look at bridge {bridge}")]
    Bridge {
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's table cannot be read or changed.
    #[error("cannot put network policies into force (nftables)")]
    Tables(#[source] io::Error),
    /// Pods of one node could pass by all rules.
    #[error(
        "network policies select the pod, but the kernel does not let netfilter see what pods on bridge \
         {bridge} say to one another: it needs the module br_netfilter"
    )]
    Blind {
        /// The bridge.
        bridge: String,
    },
    /// The thread is gone.
    #[error("the thread of network policies has ended")]
    Ended,
}

/// What a change came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements of the kernel's maps that went.
    pub removed: usize,
    /// Elements that came.
    pub added: usize,
    /// Rules were missing or strange, so that the table was made anew, in one step.
    pub rebuilt: bool,
    /// How many policies select pods of this node.
    pub policies: usize,
    /// How many elements there are now.
    pub elements: usize,
}

/// Packets that policies ended, since the rules were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Dropped {
    pub ingress: u64,
    pub egress: u64,
}

/// What the table of a bridge's pods is called.
fn table_name(bridge: &str) -> String {
    format!("{bridge}-policies")
}

/// The policies of this node. Changes are made one after the other.
#[derive(Debug)]
pub struct Policies {
    requests: mpsc::Sender<Request>,
    repairs: watch::Receiver<u64>,
    listener: tokio::task::JoinHandle<()>,
    handle: Handle,
    bridge: String,
    index: u32,
}

impl Policies {
    /// Nothing is touched until [`Policies::replace`]: what an agent before this one left stays
    /// until then. Acts in the network namespace of the calling thread, and starts a task on its
    /// tokio runtime. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// If there is no such bridge, or the kernel refuses.
    pub async fn open(bridge: &str) -> Result<Self, PoliciesError> {
        let handle = socket::open().await.map_err(PoliciesError::Socket)?;
        let failed = |source| PoliciesError::Bridge { bridge: bridge.to_owned(), source };
        let found = link::find(&handle, bridge).await.map_err(failed)?;
        let index = found.ok_or_else(|| failed(Errno::ENODEV.into()))?.index;
        let (notify, repairs) = watch::channel(0);
        let (requests, queue) = mpsc::channel();
        let ear = Arc::new(Ear::open().map_err(PoliciesError::Socket)?);
        let program = Program::open(bridge, Arc::clone(&ear), notify).map_err(PoliciesError::Socket)?;
        let verify = {
            let requests = requests.clone();
            move || requests.send(Request::Verify).is_ok()
        };
        let listener = listener::start(ear, program.table_name(), program.port(), verify);
        let thread = std::thread::Builder::new().name("policies".into());
        thread.spawn(move || program.run(&queue)).map_err(PoliciesError::Socket)?;
        Ok(Self { requests, repairs, listener, handle, bridge: bridge.to_owned(), index })
    }

    /// Exactly this is so in the cluster, and in force here. What the kernel has already is not
    /// touched.
    ///
    /// # Errors
    /// The kernel's. What is wanted is tried again from time to time, and with the next change.
    pub async fn replace(&self, all: Vec<News>) -> Result<Applied, PoliciesError> {
        self.ask(|reply| Request::Replace { all, reply }).await?
    }

    /// This has changed in the cluster, and is in force here: in one transaction, for all
    /// connections that are opened from then on.
    ///
    /// # Errors
    /// The kernel's. What is wanted is tried again from time to time, and with the next change.
    pub async fn change(&self, all: Vec<News>) -> Result<Applied, PoliciesError> {
        self.ask(|reply| Request::Change { all, reply }).await?
    }

    /// All policies that select the pod are in force for its addresses, so that it may send its
    /// first packet. Returns whether there are any.
    ///
    /// # Errors
    /// If there are, and the kernel does not take them, or cannot.
    pub async fn admit(&self, uid: String, pod: PolicyPod) -> Result<bool, PoliciesError> {
        let isolated = self.ask(|reply| Request::Admit { uid, pod, reply }).await??;
        if isolated && !bridged::ensure_seen(&self.handle, self.index).await {
            return Err(PoliciesError::Blind { bridge: self.bridge.clone() });
        }
        Ok(isolated)
    }

    /// What was dropped so far.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn dropped(&self) -> Result<Dropped, PoliciesError> {
        self.ask(|reply| Request::Dropped { reply }).await?
    }

    /// No rule of policies is left.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove(self) -> Result<(), PoliciesError> {
        self.ask(|reply| Request::Remove { reply }).await?
    }

    /// Tells how often something that others had changed was put back.
    #[must_use]
    pub fn repairs(&self) -> watch::Receiver<u64> {
        self.repairs.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, PoliciesError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| PoliciesError::Ended)?;
        answer.await.map_err(|_| PoliciesError::Ended)
    }
}

impl Drop for Policies {
    fn drop(&mut self) {
        // It holds the other end of the thread's queue.
        self.listener.abort();
    }
}
