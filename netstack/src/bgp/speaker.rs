//! The effects: a task for each router, which owns its connection.

use super::connection::connect;
use super::message;
use super::session::{Action, Event, Session};
use super::{BgpOptions, BgpPeer, BgpState, BgpSummary};
use crate::subnet::Subnet;
use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// After how long a router that does not take what it is told is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Twice the longest message.
const BUFFER_BYTES: usize = 8192;

/// What every router is to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Orders {
    routes: BTreeSet<Subnet>,
    is_over: bool,
}

/// Tells routers. If it is dropped, connections end without a word: routers that keep routes for a while
/// do so.
#[derive(Debug)]
pub struct Speaker {
    orders: watch::Sender<Orders>,
    summaries: watch::Receiver<Vec<BgpSummary>>,
    tasks: JoinSet<()>,
}

impl Speaker {
    /// Connects to all routers, which are to know these networks, and goes on doing so. Acts in the
    /// network namespaces of the threads of the calling thread's tokio runtime, on which it starts tasks.
    #[must_use]
    pub fn start(options: &BgpOptions, routes: BTreeSet<Subnet>) -> Self {
        let orders = watch::Sender::new(Orders { routes, is_over: false });
        let all: Vec<_> = options.peers.iter().map(summary).collect();
        let (told, summaries) = watch::channel(all);
        let mut tasks = JoinSet::new();
        for (place, peer) in options.peers.iter().enumerate() {
            let now = Instant::now();
            let link = Link {
                session: Session::new(options.clone(), peer.clone(), now.into_std()),
                external: peer.asn != options.asn,
                peer: peer.clone(),
                stream: None,
                connecting: false,
                told: told.clone(),
                place,
            };
            tasks.spawn(link.run(orders.subscribe()));
        }
        Self { orders, summaries, tasks }
    }

    /// Routers know exactly these networks, as soon as they can.
    pub fn announce(&self, routes: BTreeSet<Subnet>) {
        self.orders.send_if_modified(|orders| {
            let is_new = orders.routes != routes;
            orders.routes = routes;
            is_new
        });
    }

    /// Tells what became of the sessions, in the order of the options.
    #[must_use]
    pub fn summaries(&self) -> watch::Receiver<Vec<BgpSummary>> {
        self.summaries.clone()
    }

    /// Routers are told that the node stops, so that they forget at once what it told them.
    pub async fn shut_down(mut self) {
        self.orders.send_modify(|orders| orders.is_over = true);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn summary(peer: &BgpPeer) -> BgpSummary {
    BgpSummary {
        address: peer.address,
        port: peer.port,
        asn: peer.asn,
        state: BgpState::Idle,
        since: SystemTime::now(),
        established: 0,
        announced: (0, 0),
        last_error: None,
    }
}

/// The way to one router.
struct Link {
    session: Session,
    peer: BgpPeer,
    external: bool,
    stream: Option<TcpStream>,
    connecting: bool,
    told: watch::Sender<Vec<BgpSummary>>,
    place: usize,
}

/// What came first.
enum Happened {
    Ordered,
    Connected(io::Result<(TcpStream, Vec<IpAddr>)>),
    Heard(io::Result<usize>),
    Woken,
    Abandoned,
}

impl Link {
    async fn run(mut self, mut orders: watch::Receiver<Orders>) {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        orders.mark_changed();
        let mut attempt = Box::pin(connect(self.peer.clone(), self.external));
        loop {
            let wake_at = self.session.wake_at().map(Instant::from_std);
            let is_new = self.connecting;
            // Every arm is cancel-safe, and none awaits in its body.
            let happened = tokio::select! {
                biased;
                changed = orders.changed() => if changed.is_ok() { Happened::Ordered } else { Happened::Abandoned },
                stream = &mut attempt, if is_new => Happened::Connected(stream),
                count = read(self.stream.as_mut(), &mut buffer) => Happened::Heard(count),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => Happened::Woken,
            };
            match happened {
                Happened::Abandoned => return,
                Happened::Ordered => {
                    let Orders { routes, is_over } = orders.borrow_and_update().clone();
                    if is_over {
                        self.take(Event::Shutdown).await;
                        return;
                    }
                    self.take(Event::Routes(routes)).await;
                }
                Happened::Woken => self.take(Event::Tick).await,
                Happened::Connected(result) => {
                    self.connecting = false;
                    buffer.clear();
                    self.connected(result).await;
                }
                Happened::Heard(Ok(1..)) => self.hear(&mut buffer).await,
                Happened::Heard(Ok(0)) => {
                    self.take(Event::Lost("the router closed the connection".into())).await
                }
                Happened::Heard(Err(error)) => self.take(Event::Lost(error.to_string())).await,
            }
            if self.connecting && !is_new {
                attempt = Box::pin(connect(self.peer.clone(), self.external));
            }
            self.show();
        }
    }

    async fn connected(&mut self, result: io::Result<(TcpStream, Vec<IpAddr>)>) {
        match result {
            Ok((stream, addresses)) => {
                self.stream = Some(stream);
                self.take(Event::Connected(addresses)).await;
            }
            Err(error) => self.take(Event::Lost(error.to_string())).await,
        }
    }

    /// Takes all messages that are there as a whole.
    async fn hear(&mut self, buffer: &mut Vec<u8>) {
        while self.stream.is_some() {
            match message::first(buffer) {
                Ok(Some((message, length))) => {
                    buffer.drain(..length);
                    self.take(Event::Received(message)).await;
                }
                Ok(None) => return,
                Err(fault) => self.take(Event::Garbled(fault)).await,
            }
        }
        buffer.clear();
    }

    /// Does what comes of it; what fails is the next event.
    async fn take(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for action in self.session.handle(event, Instant::now().into_std()) {
                match action {
                    Action::Connect => self.connecting = true,
                    Action::Close => self.stream = None,
                    Action::Send(bytes) => {
                        let Some(stream) = &mut self.stream else { continue };
                        let sent = timeout(PATIENCE, stream.write_all(&bytes)).await;
                        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                        if let Err(error) = sent {
                            self.stream = None;
                            next = Some(Event::Lost(error.to_string()));
                        }
                    }
                }
            }
        }
    }

    /// What became of it, for whoever wants to know.
    fn show(&self) {
        self.told.send_if_modified(|all| {
            let Some(shown) = all.get_mut(self.place) else { return false };
            let before = shown.clone();
            if shown.state != self.session.state() {
                (shown.state, shown.since) = (self.session.state(), SystemTime::now());
            }
            shown.established = self.session.established();
            shown.announced = self.session.announced();
            shown.last_error = self.session.last_error().map(str::to_owned);
            *shown != before
        });
    }
}

/// Reads more into `buffer`; waits for ever if there is no connection.
async fn read(stream: Option<&mut TcpStream>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read_buf(buffer).await,
        None => pending().await,
    }
}
