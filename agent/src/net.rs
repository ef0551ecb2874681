//! The network as this node sees it, for people: who has which address, where packets go, and why they do not
//! arrive. What the store says and what the kernel has are looked at side by side; nothing is changed.

mod ask;
mod facts;
mod overview;
mod path;
mod report;
mod trace;

pub(crate) use ask::{Asked, Question};
pub(crate) use facts::Failure;
pub(crate) use overview::{NodeLine, Overview, PodLine, ServiceLine, overview};
#[cfg(test)]
pub(crate) use report::Path;
pub(crate) use report::{Outcome, Step, Trace};
pub(crate) use trace::trace;
