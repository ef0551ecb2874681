//! The controllers: pure functions from what is stored to what should be written.
//!
//! No clock, file, task or log in here. Each looks at one object by key, sees
//! the whole state, and says what to write now and when to look again.

pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod eviction;
pub mod garbage;
pub mod ingress;
pub mod job;
pub mod node;
pub mod nodeipam;
pub mod outage;
pub mod replicaset;
pub mod revision;
pub mod service;

mod amount;
mod backoff;
mod claim;
mod hash;
mod outcome;
pub(crate) mod pod;
mod ranking;
mod template;
#[cfg(test)]
mod world;

use crate::random::RandomSource;
use crate::scheduler::Ledger;
use crate::store::Write;
use jiff::Timestamp;
use manifests::ObjectKey;
pub use node::NodeRules;
pub use nodeipam::PodNetworkRules;
pub use service::ServiceRules;
use std::time::Duration;

/// What a controller decides about one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// To be written as one batch; empty once the object has converged.
    pub writes: Vec<Write>,
    /// When to look again though nothing changed; never if `None`.
    pub wake_at: Option<Timestamp>,
    /// What to tell the user, as Kubernetes Events.
    pub notes: Vec<Note>,
    /// What the same controller shall look at next.
    pub look: Vec<ObjectKey>,
}

/// An event about an object, to be recorded as a Kubernetes `Event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub about: ObjectKey,
    /// `Warning` if true, else `Normal`.
    pub warning: bool,
    /// `ScalingReplicaSet`, `SuccessfulCreate`, `FailedScheduling`…
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// What a decision may not get by itself: the time, chance, and what is known beside the state.
#[derive(Debug)]
pub struct Knowledge<'a> {
    /// The time of the decision.
    pub now: Timestamp,
    /// Next random number, uniform over `u64`; for the suffixes of names.
    pub random: &'a mut dyn RandomSource,
    /// How full the nodes are, with what was decided and is not written yet.
    pub ledger: &'a mut Ledger,
    /// For how long nodes have been silent.
    pub heard: &'a dyn Heard,
    /// What that means.
    pub rules: NodeRules,
    /// Where the addresses of services are from.
    pub services: &'a ServiceRules,
    /// Where the addresses of nodes' pods are from.
    pub pods: PodNetworkRules,
}

/// Tells for how long nodes have been silent.
pub trait Heard: std::fmt::Debug {
    /// For how long `node` has been.
    fn age(&self, node: &str) -> Duration;
}

/// Where nobody listens, nobody is silent: a node that is alone.
#[derive(Debug, Clone, Copy)]
pub struct NobodyListens;

impl Heard for NobodyListens {
    fn age(&self, _: &str) -> Duration {
        Duration::ZERO
    }
}
