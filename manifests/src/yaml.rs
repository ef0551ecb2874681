//! YAML text as a tree in which every key and value knows its place.
//!
//! Scalars are read as kubectl reads them (YAML 1.1: `yes` is a boolean, `0644`
//! an octal), merge keys and aliases are resolved, and everything is bounded:
//! what a file may take is decided before it is taken.

mod compose;
mod scalar;
mod tree;

pub(crate) use compose::{SyntaxError, compose};
pub(crate) use scalar::Scalar;
pub(crate) use tree::{Content, Entry, NodeId, Place, Tree};

/// The largest file that is read, in bytes. Larger ones are refused unread.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// The most values that one file may hold, and that its aliases may stand for.
pub const MAX_NODES: u64 = 250_000;
/// The deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 100;
