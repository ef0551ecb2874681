//! Tokio for openraft, with patience for votes; and patience with disks.
//!
//! openraft 0.9 waits for a vote's answer for `election_timeout_min`, and by the number above
//! it makes followers refuse votes after the leader's last word. A voter may have to flush to a
//! slow disk before it answers, and a lost leader has to be replaced at once: the two must
//! differ. So `election_timeout_min` is a mark that is never meant as a time.

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use std::time::Duration;

/// `election_timeout_min` stands for [`VOTE`]; no other waiting of openraft's is as short.
const MARK: Duration = Duration::from_millis(1);
/// How long a vote's answer is waited for. The next election does not wait for it.
pub(super) const VOTE: Duration = Duration::from_secs(10);

/// How long a disk may refuse to read before it is taken for lost.
const DISK: Duration = Duration::from_secs(30);
/// Between two tries.
const RETRY: Duration = Duration::from_millis(100);

/// What `work` gives; it is tried again for a while if it fails.
pub(super) async fn patiently<T, E>(mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = tokio::time::Instant::now() + DISK;
    loop {
        match work() {
            Err(_) if tokio::time::Instant::now() < end => tokio::time::sleep(RETRY).await,
            result => return result,
        }
    }
}

/// `future` itself; in a simulation, one that stands still while its member does.
#[cfg(not(test))]
pub(super) const fn held<F: Future>(future: F) -> F {
    future
}

#[cfg(test)]
pub(super) use super::simulation::held;

/// [`TokioRuntime`] but for one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PatientRuntime;

impl AsyncRuntime for PatientRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(held(future))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(if duration == MARK { VOTE } else { duration }, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}
