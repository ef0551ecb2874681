//! The declarative API: Kubernetes objects and Evenkeel's own, from YAML text to
//! validated, defaulted, typed values.
//!
//! Pure: no file, network, clock or log. Everything that can be wrong with a
//! text is found here, once, and reported with its place; whatever leaves this
//! crate as an [`Object`] is complete.

pub mod bandwidth;
pub mod config;
pub mod cron;
pub mod defaults;
pub mod diagnostic;
mod duration;
mod gvk;
pub mod habits;
pub mod image;
pub mod ingress;
pub mod kind;
mod names;
pub mod object;
pub mod parse;
mod path;
pub mod quantity;
mod report;
pub mod revision;
mod rules;
mod schema;
pub mod selector;
mod source;
mod suggest;
mod support;
mod yaml;

pub use k8s_openapi;
pub use kind::Kind;
pub use object::{Object, ObjectKey};
pub use yaml::{MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES};
