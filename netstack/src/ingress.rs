//! Requests from outside to services, by host and path (ADR 14).
//!
//! HTTP, TLS and the pool of connections are libraries' (hyper, hyper-util, rustls); which endpoint a
//! request goes to, and when it goes to another, is decided here. `table`, `host`, `backend` and `headers`
//! are pure. Nothing here knows Kubernetes' objects, and nothing is logged: an [`Observer`] is told.

mod backend;
mod body;
mod certificates;
mod headers;
mod host;
mod observer;
mod ports;
mod proxy;
mod server;
mod table;
#[cfg(test)]
mod tests;

pub use backend::{Backend, usable};
pub use certificates::{Certificate, CertificateError, Certificates};
pub use host::HostRule;
pub use observer::{Observer, Seen};
pub use ports::HeldAt;
pub use server::{Ingress, IngressError, IngressOptions, Trusted};
pub use table::{IngressName, PathRule, Route, RouteOptions, Table};
