//! What is told of requests while they are served.

use super::table::IngressName;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A request that was answered, or given up.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whose rule it met; none if no rule wanted it.
    pub ingress: Option<Arc<IngressName>>,
    /// The name of the service that it went to; empty if to none.
    pub service: String,
    /// `GET`…; `OTHER` for what RFC 9110 and 5789 do not know.
    pub method: &'static str,
    /// Of the answer; 499 if the client left before there was one.
    pub status: u16,
    /// From its head to the last byte of the answer.
    pub took: Duration,
}

/// Whoever counts. It is called in the midst of the work, and must not wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A request is over.
    fn request(&self, seen: &Seen);
    /// There is a connection more, or one less.
    fn connections(&self, change: i8);
    /// A connection could not be accepted; it is tried again.
    fn accept_failed(&self, error: &io::Error);
}

/// A request under way: observed when it is dropped.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) seen: Seen,
    pub(super) began: tokio::time::Instant,
    pub(super) observer: Arc<dyn Observer>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.seen.took = self.began.elapsed();
        self.observer.request(&self.seen);
    }
}
