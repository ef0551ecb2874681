//! Services: the addresses that clients ask, led to endpoints by the kernel.
//!
//! `model` says what is wanted. `choice` and `table` make elements of the kernel's maps from it
//! (pure), `ledger` keeps them per service, so that a change costs what changes; `diff` compares
//! (pure). `rules` is the constant part; `wire` are the bytes; `program` does, on a thread of its
//! own with a socket that stays open. `in_force` is what the kernel has, for people. All of it stays in force while no agent runs.

mod choice;
mod diff;
mod fence;
mod flows;
mod in_force;
mod ledger;
mod look;
mod model;
mod program;
mod rules;
mod table;
#[cfg(test)]
mod testing;
mod way;
mod wire;

pub(crate) use rules::{destination, source, tag};

pub use in_force::{Client, Lead, ServicesInForce};
pub use model::{Balancer, Endpoint, Family, NodeView, Policy, ServiceName, ServicePort, Target, Transport};

use crate::sys::ear::Ear;
use crate::sys::link;
use crate::sys::nft::LOCAL as LOCAL_NUMBER;
use crate::sys::{address, socket};
use crate::{bridged, listener};
use nix::errno::Errno;
use program::{Program, Request};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

/// What services are made from; everything on the machine derives from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesOptions {
    /// Name of the pods' bridge, which is there. The tables are called after it.
    pub bridge: String,
    /// Where the services' addresses are from: what nobody has there is refused.
    pub networks: Vec<ServiceNetwork>,
}

/// A network of services' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// An address in it.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix: u8,
    /// The address that the node itself asks from: the bridge's.
    pub source: Option<IpAddr>,
}

/// Why services cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// No netlink socket, or no thread.
    #[error("cannot talk to the kernel about services over netlink")]
    Socket(#[source] io::Error),
    /// The bridge or the route to the services' network.
    #[error("cannot lead the services' network to bridge {bridge}")]
    Route {
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's tables cannot be read or changed.
    #[error("cannot change the services of the node (nftables)")]
    Tables(#[source] io::Error),
    /// Services are in force, but who asked an endpoint that is gone goes on asking it.
    #[error("cannot make the kernel forget UDP flows to endpoints that are gone (conntrack)")]
    Forget(#[source] io::Error),
    /// The thread is gone.
    #[error("the thread of services has ended")]
    Ended,
}

/// What a change came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements of the kernel's maps that went.
    pub removed: usize,
    /// Elements that came.
    pub added: usize,
    /// Rules were missing or strange, so that the tables were made anew, in one step.
    pub rebuilt: bool,
    /// UDP flows to endpoints that are gone, which were forgotten.
    pub forgotten: usize,
    /// Services whose address, port or node port another service has.
    pub without: Vec<Taken>,
}

/// A place that two services want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who does not have it.
    pub service: ServiceName,
    /// The address; unspecified for a port of the node.
    pub address: IpAddr,
    /// Its protocol.
    pub transport: Transport,
    /// Its port.
    pub port: u16,
}

/// What the tables of a bridge's services are called.
fn table_name(bridge: &str) -> String {
    format!("{bridge}-services")
}

/// The services of this node. Changes are made one after the other.
#[derive(Debug)]
pub struct Services {
    requests: mpsc::Sender<Request>,
    repairs: watch::Receiver<u64>,
    listener: tokio::task::JoinHandle<()>,
}

impl Services {
    /// The route to the services' network exists. Rules are made with the first
    /// [`Services::replace`]; what an agent before this one left stays until then. Acts in the
    /// network namespace of the calling thread, and starts a task on its tokio runtime. Needs
    /// `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// If there is no such bridge, or the kernel refuses.
    pub async fn open(options: ServicesOptions) -> Result<Self, ServicesError> {
        let handle = socket::open().await.map_err(ServicesError::Socket)?;
        let failed = |source| ServicesError::Route { bridge: options.bridge.clone(), source };
        let bridge = link::find(&handle, &options.bridge).await.map_err(failed)?;
        let bridge = bridge.ok_or_else(|| failed(Errno::ENODEV.into()))?;
        for network in &options.networks {
            let (to, prefix, from) = (network.address, network.prefix, network.source);
            let route = address::ensure_link_route(&handle, bridge.index, (to, prefix), from);
            route.await.map_err(failed)?;
        }
        // Where nothing sees what is bridged, rules do without.
        let sees_bridged = bridged::ensure_seen(&handle, bridge.index).await;
        let (notify, repairs) = watch::channel(0);
        let (requests, queue) = mpsc::channel();
        let ear = Arc::new(Ear::open().map_err(ServicesError::Socket)?);
        let program = Program::open(options, sees_bridged, (Arc::clone(&ear), notify));
        let program = program.map_err(ServicesError::Socket)?;
        let verify = {
            let requests = requests.clone();
            move || requests.send(Request::Verify).is_ok()
        };
        let listener = listener::start(ear, program.table(), program.port(), verify);
        let thread = std::thread::Builder::new().name("services".into());
        thread.spawn(move || program.run(&queue)).map_err(ServicesError::Socket)?;
        Ok(Self { requests, repairs, listener })
    }

    /// Exactly these services are in force, on a node that looks like this. What the kernel has
    /// already is not touched.
    ///
    /// # Errors
    /// The kernel's. What is wanted is tried again from time to time, and with the next change.
    pub async fn replace(
        &self,
        node: NodeView,
        all: BTreeMap<ServiceName, Vec<ServicePort>>,
    ) -> Result<Applied, ServicesError> {
        self.ask(|reply| Request::Replace { node, all, reply }).await
    }

    /// These services have these ports, all at once; those without any are gone. The next packet
    /// sees it.
    ///
    /// # Errors
    /// The kernel's. What is wanted is tried again from time to time, and with the next change.
    pub async fn change(
        &self,
        changes: Vec<(ServiceName, Vec<ServicePort>)>,
    ) -> Result<Applied, ServicesError> {
        self.ask(|reply| Request::Change { changes, reply }).await
    }

    /// No rule of services is left.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove(self) -> Result<(), ServicesError> {
        self.ask(|reply| Request::Remove { reply }).await.map(|_| ())
    }

    /// Tells how often something that others had changed was put back.
    #[must_use]
    pub fn repairs(&self) -> watch::Receiver<u64> {
        self.repairs.clone()
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<Applied, ServicesError>>) -> Request,
    ) -> Result<Applied, ServicesError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| ServicesError::Ended)?;
        answer.await.map_err(|_| ServicesError::Ended)?
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // It holds the other end of the thread's queue.
        self.listener.abort();
    }
}
