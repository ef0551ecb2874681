//! The object store: get, list, watch and compare-and-swap write.

pub mod state;
pub mod write;

pub use state::State;
pub use write::Write;
