//! Bodies that pass through: each is read as fast as it is taken, and nothing of it is kept.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Why a body ends before its end.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub(super) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body did not come as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Nothing came for so long.
    #[error("nothing came for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// It is longer than it may be.
    #[error("the body is longer than {0} bytes")]
    TooLong(u64),
    /// Another attempt has it.
    #[error("the request is sent anew")]
    TakenBack,
}

/// The body of a request, which can be sent anew as long as nothing of it was taken.
#[derive(Debug)]
pub(super) struct Lent(Arc<Mutex<Slot>>);

#[derive(Debug)]
struct Slot {
    body: Incoming,
    /// Of the loan that may read.
    loan: usize,
    touched: bool,
    left: u64,
    limit: u64,
    failure: Option<BodyError>,
    /// When something of it was taken last.
    moved_at: Instant,
}

impl Lent {
    /// `body`, of which at most `limit` bytes are passed on.
    pub(super) fn new(body: Incoming, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        let moved_at = Instant::now();
        let slot = Slot { body, loan: 0, touched: false, left: limit, limit, failure: None, moved_at };
        Self(Arc::new(Mutex::new(slot)))
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of it can still be sent.
    pub(super) fn is_whole(&self) -> bool {
        !self.slot().touched
    }

    /// What the client did wrong in sending it.
    pub(super) fn failure(&self) -> Option<BodyError> {
        self.slot().failure
    }

    /// When it was lent, or something of it was taken.
    pub(super) fn moved_at(&self) -> Instant {
        self.slot().moved_at
    }

    /// The body, to be sent; earlier loans are over. Who sends nothing for `silence` fails.
    pub(super) fn lend(&self, silence: Duration) -> Loan {
        let mut slot = self.slot();
        slot.loan += 1;
        slot.moved_at = Instant::now();
        let size = slot.body.size_hint();
        let (loan, ended) = (slot.loan, slot.body.is_end_stream());
        Loan { slot: Arc::clone(&self.0), loan, size, ended, silence, sleep: None }
    }
}

/// A loan of a body.
pub(super) struct Loan {
    slot: Arc<Mutex<Slot>>,
    loan: usize,
    size: SizeHint,
    ended: bool,
    silence: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("loan", &self.loan).finish_non_exhaustive()
    }
}

/// True once nothing has happened for `silence`.
fn is_silent(sleep_: &mut Option<Pin<Box<Sleep>>>, silence: Duration, context: &mut Context<'_>) -> bool {
    let timer = sleep_.get_or_insert_with(|| Box::pin(sleep(silence)));
    timer.as_mut().poll(context).is_ready()
}

impl Body for Loan {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let own = self.get_mut();
        let mut slot = own.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.loan != own.loan {
            return Poll::Ready(Some(Err(BodyError::TakenBack.into())));
        }
        match Pin::new(&mut slot.body).poll_frame(context) {
            Poll::Ready(frame) => {
                own.sleep = None;
                slot.moved_at = Instant::now();
                own.ended = frame.is_none() || slot.body.is_end_stream();
                slot.touched |= frame.is_some();
                let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                let length = length.map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                match slot.left.checked_sub(length) {
                    Some(left) => slot.left = left,
                    None => {
                        let failure = BodyError::TooLong(slot.limit);
                        slot.failure = Some(failure);
                        return Poll::Ready(Some(Err(failure.into())));
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if is_silent(&mut own.sleep, own.silence, context) => {
                let failure = BodyError::Silent(own.silence);
                (slot.touched, slot.failure) = (true, Some(failure));
                Poll::Ready(Some(Err(failure.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// A body with something that is dropped at its end.
pub(super) struct With<B, T> {
    body: B,
    _ends: T,
}

/// `body`, at whose end `ends` is dropped.
pub(super) const fn with<B, T>(body: B, ends: T) -> With<B, T> {
    With { body, _ends: ends }
}

impl<B: Body + Unpin, T: Unpin> Body for With<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, whose sender may not be silent for too long.
pub(super) struct Answer {
    body: Incoming,
    silence: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    /// `body`, whose sender may be silent for `silence`.
    pub(super) const fn new(body: Incoming, silence: Duration) -> Self {
        Self { body, silence, sleep: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let own = self.get_mut();
        match Pin::new(&mut own.body).poll_frame(context) {
            Poll::Ready(frame) => {
                own.sleep = None;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if is_silent(&mut own.sleep, own.silence, context) => {
                Poll::Ready(Some(Err(BodyError::Silent(own.silence).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of a few words of our own.
pub(super) fn words(text: &str) -> AnyBody {
    let text = Bytes::copy_from_slice(text.as_bytes());
    http_body_util::Full::new(text).map_err(|never| match never {}).boxed_unsync()
}
