//! The thread that waits for the disk.

use super::facts::Change;
use super::journal::Journal;
use crate::store::StorageError;
use crate::store::patience::held;
use crate::store::raft::Config;
use openraft::storage::LogFlushed;
use std::collections::VecDeque;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// Between the first two tries on a disk that refuses. Each next wait is twice as long.
const RETRY: Duration = Duration::from_millis(50);
/// The longest wait between two tries.
const SLOWEST_RETRY: Duration = Duration::from_secs(1);
/// Requests that one commit takes in.
const GROUP: usize = 256;

/// A member whose disk refuses, or is busy for longer than this, does not want to lead.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the disk does.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Flushing {
    /// Since when it is busy with one commit; none while there is nothing to do.
    pub(in crate::store) since: Option<Instant>,
    /// What it says; none if the last commit went well.
    pub(in crate::store) failing: Option<StorageError>,
    /// Failures in a row.
    pub(in crate::store) failures: u64,
    /// How long the slowest of the recent commits took.
    pub(in crate::store) slowest: Duration,
}

/// Who wants to know that a change is on disk.
pub(super) enum Done {
    Append(LogFlushed<Config>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.log_io_completed(result),
            // Whoever asked may have gone; what is on disk stays there.
            Self::Waiter(waiter) => drop(waiter.send(result)),
        }
    }
}

enum Request {
    Flush(Vec<Change>, Done),
    GiveUp,
}

/// Dropping it waits for the commit under way.
pub(super) struct Flusher {
    requests: Option<mpsc::UnboundedSender<Request>>,
    runs: Runs,
    flushing: watch::Receiver<Flushing>,
}

/// Where changes wait for the disk.
enum Runs {
    Thread(Option<JoinHandle<()>>),
    /// For a simulation, in which there are no threads.
    Task(AbortHandle),
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").field("flushing", &self.flushing).finish_non_exhaustive()
    }
}

impl Flusher {
    /// Writes to `journal` from here on.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(super) fn start(journal: Journal, is_threaded: bool) -> io::Result<Self> {
        let (requests, queue) = mpsc::unbounded_channel();
        let (state, flushing) = watch::channel(Flushing::default());
        let worker = Worker { journal, queue, state, backlog: VecDeque::new(), give_up: false };
        let runs = if is_threaded {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            let thread = std::thread::Builder::new().name("store-log".into());
            Runs::Thread(Some(thread.spawn(move || runtime.block_on(worker.run()))?))
        } else {
            Runs::Task(tokio::spawn(held(worker.run())).abort_handle())
        };
        Ok(Self { requests: Some(requests), runs, flushing })
    }

    pub(super) fn watch(&self) -> watch::Receiver<Flushing> {
        self.flushing.clone()
    }

    /// `changes` will be on disk, and `done` told then.
    pub(super) fn submit(&self, changes: Vec<Change>, done: Done) {
        let sent = self.requests.as_ref().map(|requests| requests.send(Request::Flush(changes, done)));
        if let Some(Err(mpsc::error::SendError(Request::Flush(_, done)))) = sent {
            done.tell(Err(io::Error::other("the store's thread is gone")));
        }
    }

    /// What the disk refuses from here on has failed.
    pub(super) fn give_up(&self) {
        if let Some(requests) = &self.requests {
            // Who is gone has given up.
            drop(requests.send(Request::GiveUp));
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.give_up();
        self.requests = None;
        match &mut self.runs {
            Runs::Task(task) => task.abort(),
            Runs::Thread(thread) => {
                if let Some(thread) = thread.take() {
                    // A panic was printed by its thread; there is nobody to tell it again.
                    drop(thread.join());
                }
            }
        }
    }
}

fn told(result: &Result<(), StorageError>) -> io::Result<()> {
    result.as_ref().copied().map_err(|error| io::Error::other(crate::chain(error)))
}

struct Worker {
    journal: Journal,
    queue: mpsc::UnboundedReceiver<Request>,
    state: watch::Sender<Flushing>,
    /// What came while a commit was tried again.
    backlog: VecDeque<(Vec<Change>, Done)>,
    give_up: bool,
}

impl Worker {
    async fn run(mut self) {
        while let Some((mut changes, done)) = self.next().await {
            let mut waiting = vec![done];
            while waiting.len() < GROUP
                && let Some((more, done)) = self.try_next()
            {
                changes.extend(more);
                waiting.push(done);
            }
            let result = self.commit(&changes).await;
            for done in waiting {
                done.tell(told(&result));
            }
        }
    }

    /// The next request; none when everybody who could ask is gone.
    async fn next(&mut self) -> Option<(Vec<Change>, Done)> {
        loop {
            if let Some(request) = self.try_next() {
                return Some(request);
            }
            let request = self.queue.recv().await?;
            self.take(request);
        }
    }

    fn try_next(&mut self) -> Option<(Vec<Change>, Done)> {
        while let Ok(request) = self.queue.try_recv() {
            self.take(request);
        }
        self.backlog.pop_front()
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Flush(changes, done) => self.backlog.push_back((changes, done)),
            Request::GiveUp => self.give_up = true,
        }
    }

    /// Tries until the disk takes `changes`, or the store is closing.
    async fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        let started = Instant::now();
        // Nobody waits for this: to wake them all would cost more than the rest of the way.
        self.state.send_if_modified(|state| {
            state.since = Some(started);
            false
        });
        let mut pause = RETRY;
        loop {
            self.wait(self.journal.delay()).await;
            match self.journal.commit(changes) {
                Ok(()) => {
                    self.state.send_if_modified(|state| state.succeed(started.elapsed()));
                    return Ok(());
                }
                Err(error) if self.give_up => return Err(error),
                Err(error) => self.state.send_modify(|state| state.fail(error)),
            }
            self.wait(pause).await;
            pause = (pause * 2).min(SLOWEST_RETRY);
        }
    }

    /// Lets `pause` pass, or less if the store is closing.
    async fn wait(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while !pause.is_zero() && !self.give_up {
            match timeout_at(end, self.queue.recv()).await {
                Ok(Some(request)) => self.take(request),
                Ok(None) => self.give_up = true,
                Err(_) => return,
            }
        }
    }
}

impl Flushing {
    /// How long the disk has been doing nothing of what it was asked; none while it works.
    pub(in crate::store) fn stuck(&self, now: Instant) -> Option<Duration> {
        let busy = now.saturating_duration_since(self.since?);
        (self.failing.is_some() || busy > PATIENCE).then_some(busy)
    }

    /// True if it failed before.
    fn succeed(&mut self, took: Duration) -> bool {
        let failed = self.failing.take().is_some();
        if failed {
            tracing::info!("the store's file can be written again");
        }
        self.since = None;
        self.failures = 0;
        // Slow once is remembered for a while: a sixteenth is forgotten each time.
        self.slowest = took.max(self.slowest - self.slowest / 16);
        failed
    }

    fn fail(&mut self, error: StorageError) {
        if self.failing.is_none() {
            let error = crate::chain(&error);
            tracing::error!(error, "the store's file cannot be written; trying on");
        }
        self.failing = Some(error);
        self.failures += 1;
    }
}
