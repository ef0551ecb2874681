//! The Container Runtime Interface, v1, on a local socket: a thin face over this node's runtime.
//!
//! A sandbox is a pod that is made by request: its supervisor holds the namespaces, and its
//! containers come and go one by one. It shares the node with the pods of the store, and
//! neither of them sees the other. What a client said of its sandboxes and containers is kept
//! in the pods' folders: both outlive this process.

mod book;
mod container;
mod device;
mod events;
mod exec;
mod filter;
mod image;
mod metrics;
mod pod;
mod ports;
mod sandbox;
mod service;
mod spec;
mod state;
mod stats;
mod status;
mod tickets;

/// The interface's own types, made from `proto/cri.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the interface's documentation is elsewhere"
)]
pub(crate) mod v1 {
    tonic::include_proto!("runtime.v1");
}

use crate::node::Node;
use anyhow::Context as _;
use book::Book;
use events::Events;
use std::path::Path;
use std::sync::Arc;
use tickets::Tickets;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use v1::image_service_server::ImageServiceServer;
use v1::runtime_service_server::RuntimeServiceServer;

/// What requests are answered from.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    node: Arc<Node>,
    book: Arc<Book>,
    events: Events,
    tickets: Tickets,
}

/// Answers on `listener` until `stop`.
///
/// # Errors
/// If what was kept of earlier sandboxes cannot be read, or accepting fails for good.
pub(crate) async fn run(
    listener: UnixListener,
    node: Arc<Node>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let book = Book::open(&node.runtime).context("cannot read what is known of CRI sandboxes")?;
    let (tickets, streaming) = Tickets::listen().await.context("the streaming server")?;
    let cri = Cri { book: Arc::new(book), events: Events::default(), tickets, node };
    cri.forget_unfinished().await;
    cri.republish().await;
    let watcher = events::watch(cri.clone(), stop.clone());
    // Not by tonic's own server: it answers a deadline that has passed with `Cancelled`.
    let routes =
        Routes::new(RuntimeServiceServer::new(cri.clone())).add_service(ImageServiceServer::new(cri));
    let server = axum::serve(listener, routes.prepare().into_axum_router()).into_future();
    // Event streams never end by themselves: the end of the agent ends them.
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        () = watcher => Ok(()),
        result = streaming => result.context("the streaming server"),
        result = server => result.context("the CRI socket"),
    }
}

/// The socket, open, mode 0600. One that a dead agent left is replaced.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    crate::serve::listen(path).context("the CRI socket")
}
