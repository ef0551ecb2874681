//! The declarative API: Kubernetes objects and Evenkeel's own, from YAML text to
//! validated, defaulted, typed values.
//!
//! Pure: no file, network, clock or log. Everything that can be wrong with a
//! text is found here, once, and reported with its place; whatever leaves this
//! crate as an [`Object`] is complete.

pub mod config;
pub mod kind;
pub mod object;
pub mod revision;

pub use k8s_openapi;
pub use kind::Kind;
pub use object::{Object, ObjectKey};
