//! The controllers: pure functions from what is stored to what should be written.
//!
//! No clock, file, task or log in here. Each looks at one object by key, sees
//! the whole state, and says what to write now and when to look again.

pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod garbage;
pub mod job;
pub mod replicaset;
pub mod revision;

mod amount;
mod backoff;
mod claim;
mod hash;
mod outcome;
mod pod;
mod ranking;
mod template;
#[cfg(test)]
mod world;

use crate::store::Write;
use jiff::Timestamp;
use manifests::ObjectKey;

/// What a controller decides about one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// To be written as one batch; empty once the object has converged.
    pub writes: Vec<Write>,
    /// When to look again though nothing changed; never if `None`.
    pub wake_at: Option<Timestamp>,
    /// What to tell the user, as Kubernetes Events.
    pub notes: Vec<Note>,
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

/// What a decision may not get by itself: the time, and chance.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the decision.
    pub now: Timestamp,
    /// Next random number, uniform over `u64`; for the suffixes of names.
    pub random: &'a mut dyn RandomSource,
}

/// A source of chance that a test can fix.
pub trait RandomSource: std::fmt::Debug {
    /// The next number, uniform over `u64`.
    fn next(&mut self) -> u64;
}
