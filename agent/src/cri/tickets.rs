//! The streaming server: each address that a client is given is good once, and not for long.

use super::sandbox::new_id;
use super::{Cri, v1};
use crate::streaming::{self, Target, Wanted, What};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use runtime::pods::ExecSpec;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::Status;

/// How long an address is good.
const LIFETIME: Duration = Duration::from_secs(60);
/// The most addresses that nobody has used yet.
const MAX_TICKETS: usize = 1000;

/// What an address leads to.
#[derive(Debug, Clone)]
enum Ticket {
    Remote(Target),
    /// The pod whose supervisor's socket this is.
    Ports(PathBuf),
}

/// The addresses that were given and not used.
#[derive(Debug, Clone)]
pub(super) struct Tickets {
    address: SocketAddr,
    open: Arc<Mutex<BTreeMap<String, (Instant, Ticket)>>>,
}

impl Tickets {
    /// A server on a free port of the loopback, to be run.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub(super) async fn listen() -> std::io::Result<(Self, impl Future<Output = std::io::Result<()>>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let tickets = Self { address: listener.local_addr()?, open: Arc::default() };
        let router = Router::new().route("/{token}", any(answer)).with_state(tickets.clone());
        let server = async move { axum::serve(listener, router).await };
        Ok((tickets, server))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, Ticket)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, ticket: Ticket) -> Result<String, Status> {
        let token = new_id()?;
        let mut open = self.open();
        let now = Instant::now();
        open.retain(|_, (until, _)| *until > now);
        if open.len() >= MAX_TICKETS {
            return Err(Status::resource_exhausted("too many streams were asked for and not opened"));
        }
        open.insert(token.clone(), (now + LIFETIME, ticket));
        Ok(format!("http://{}/{token}", self.address))
    }

    fn redeem(&self, token: &str) -> Option<Ticket> {
        let (until, ticket) = self.open().remove(token)?;
        (until > Instant::now()).then_some(ticket)
    }
}

async fn answer(State(tickets): State<Tickets>, Path(token): Path<String>, request: Request) -> Response {
    match tickets.redeem(&token) {
        Some(Ticket::Remote(target)) => streaming::remote_command(request, target).await,
        Some(Ticket::Ports(socket)) => streaming::port_forward(request, socket).await,
        None => (StatusCode::NOT_FOUND, "this address is not good, or not any more").into_response(),
    }
}

fn wanted(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Wanted, Status> {
    if tty && stderr {
        return Err(Status::invalid_argument("a terminal has no standard error of its own"));
    }
    if !stdin && !stdout && !stderr {
        return Err(Status::invalid_argument("one of stdin, stdout and stderr has to be asked for"));
    }
    Ok(Wanted { stdin, stdout, stderr, tty })
}

impl Cri {
    pub(super) fn exec(&self, request: v1::ExecRequest) -> Result<String, Status> {
        let v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
        let wanted = wanted(stdin, stdout, stderr, tty)?;
        let container = self.book.container(&container_id)?;
        self.must_run(&container.id)?;
        let spec = ExecSpec { container: container.id.clone(), args: cmd, ..ExecSpec::default() };
        let socket = self.node.runtime.socket(&container.sandbox);
        self.tickets.issue(Ticket::Remote(Target { socket, what: What::Exec(spec), wanted }))
    }

    pub(super) fn attach(&self, request: &v1::AttachRequest) -> Result<String, Status> {
        let v1::AttachRequest { container_id, tty, stdin, stdout, stderr } = request;
        let wanted = wanted(*stdin, *stdout, *stderr, *tty)?;
        let container = self.book.container(container_id)?;
        self.must_run(&container.id)?;
        let socket = self.node.runtime.socket(&container.sandbox);
        let what = What::Attach(container.id.clone());
        self.tickets.issue(Ticket::Remote(Target { socket, what, wanted }))
    }

    pub(super) fn port_forward(&self, id: &str) -> Result<String, Status> {
        let sandbox = self.book.sandbox(id)?;
        let state = super::state::sandbox_state(self.seen(&sandbox.id).as_ref());
        if state != v1::PodSandboxState::SandboxReady {
            return Err(Status::failed_precondition("the pod sandbox is not ready"));
        }
        self.tickets.issue(Ticket::Ports(self.node.runtime.socket(&sandbox.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_good_once_and_not_for_long() {
        let (tickets, _server) = Tickets::listen().await.expect("listens");
        let issue = || {
            let url = tickets.issue(Ticket::Ports("/run/a.sock".into())).expect("an address");
            assert!(url.starts_with("http://127.0.0.1:"), "{url}");
            url.rsplit_once('/').expect("a token").1.to_owned()
        };
        let (used, late) = (issue(), issue());
        assert!(tickets.redeem(&used).is_some());
        assert!(tickets.redeem(&used).is_none());
        tokio::time::advance(LIFETIME).await;
        assert!(tickets.redeem(&late).is_none());
        assert!(tickets.redeem("no-such-token").is_none());
    }
}
