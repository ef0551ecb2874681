//! From Git to bound pods: sources, the store, and the controllers between them.

pub mod controllers;
pub mod driver;
pub mod events;
pub mod git;
pub mod heartbeats;
pub mod peer;
pub mod random;
pub mod scheduler;
pub mod store;
pub mod sync;
mod sys;
#[cfg(test)]
mod testing;

/// An error and all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
