//! From Git to bound pods: sources, the store, and the controllers between them.

pub mod controllers;
pub mod git;
pub mod random;
pub mod store;
