//! The connection to one peer: made when it is needed, kept, and made again.

use super::backoff;
use super::dial::{DialError, Line, dial};
use super::identity::Identity;
use super::papers::Papers;
use super::tls::Expected;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::time::Instant;

type Dialling = Shared<BoxFuture<'static, Result<Line, Arc<DialError>>>>;

/// The connection to one peer at one address.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    address: String,
    papers: Papers,
    home: Handle,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Not needed until now.
    Idle,
    /// On its way; whoever needs it waits for the same one.
    Dialling(Dialling),
    /// Open; made as this identity.
    Open { line: Line, as_: Arc<Identity> },
    /// It did not come to be, so many times in a row.
    Resting { until: Instant, failures: u32, error: Arc<DialError> },
}

impl Link {
    pub(super) fn new((name, address): (String, String), papers: Papers, home: Handle) -> Arc<Self> {
        Arc::new(Self { name, address, papers, home, state: Mutex::new(State::Idle) })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open line to the peer. A peer that could not be reached a moment ago is not waited for.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    ///
    /// # Cancel safety
    /// The connection goes on being made for the next who needs it.
    pub(super) async fn line(self: &Arc<Self>) -> Result<Line, Arc<DialError>> {
        let dialling = {
            let mut state = self.state();
            match &*state {
                State::Open { line, as_ } if self.is_usable(line, as_) => return Ok(line.clone()),
                State::Dialling(dialling) => dialling.clone(),
                State::Resting { until, failures, error } if Instant::now() < *until => {
                    let (failures, source) = (*failures, Arc::clone(error));
                    let address = self.address.clone();
                    return Err(Arc::new(DialError::Resting { address, failures, source }));
                }
                State::Resting { failures, .. } => self.begin(*failures, &mut state),
                // After a renewal, a line of before is left to those who wait for answers on it.
                State::Idle | State::Open { .. } => self.begin(0, &mut state),
            }
        };
        dialling.await
    }

    fn is_usable(&self, line: &Line, as_: &Arc<Identity>) -> bool {
        !line.is_closed() && Arc::ptr_eq(as_, &self.papers.identity())
    }

    /// Begins to connect, in a task of its own: a caller that gives up does not end it.
    fn begin(self: &Arc<Self>, failures: u32, state: &mut State) -> Dialling {
        let link = Arc::clone(self);
        let task = self.home.spawn(async move { link.connect(failures).await });
        let dialling = async move {
            let gone = |_| Err(Arc::new(DialError::Silent { address: String::new() }));
            task.await.unwrap_or_else(gone)
        };
        let dialling = dialling.boxed().shared();
        *state = State::Dialling(dialling.clone());
        dialling
    }

    async fn connect(&self, failures: u32) -> Result<Line, Arc<DialError>> {
        let as_ = self.papers.identity();
        let expected = Expected::Member { papers: self.papers.clone(), name: self.name.clone() };
        let dialled = dial(&self.address, expected, Some(self.papers.clone())).await;
        let dialled = dialled.map_err(Arc::new);
        let mut state = self.state();
        *state = match &dialled {
            Ok(line) => State::Open { line: line.clone(), as_ },
            Err(error) => {
                let failures = failures.saturating_add(1);
                let until = Instant::now() + backoff::rest(failures, super::chance());
                State::Resting { until, failures, error: Arc::clone(error) }
            }
        };
        dialled
    }
}
