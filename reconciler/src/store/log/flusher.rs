//! The thread that waits for the disk.

use super::disk::{Change, Disk};
use crate::store::StorageError;
use crate::store::raft::Config;
use openraft::storage::LogFlushed;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Between two tries on a disk that refuses.
const RETRY: Duration = Duration::from_millis(50);
/// Requests that one commit takes in.
const GROUP: usize = 256;

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
    way: Way,
    flushing: watch::Receiver<Flushing>,
}

/// How changes get to the disk.
enum Way {
    Thread {
        requests: Option<mpsc::Sender<Request>>,
        thread: Option<JoinHandle<()>>,
    },
    /// At once, by whoever submits them: for a simulation, in which there are no threads. What
    /// the disk refuses has failed.
    Inline(Disk),
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").field("flushing", &self.flushing).finish_non_exhaustive()
    }
}

impl Flusher {
    pub(super) fn start(disk: Disk) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let (state, flushing) = watch::channel(Flushing::default());
        let worker = Worker { disk, queue, state, backlog: VecDeque::new(), give_up: false };
        let thread = std::thread::Builder::new().name("store-log".into()).spawn(move || worker.run())?;
        Ok(Self { way: Way::Thread { requests: Some(requests), thread: Some(thread) }, flushing })
    }

    pub(super) fn inline(disk: Disk) -> Self {
        Self { way: Way::Inline(disk), flushing: watch::channel(Flushing::default()).1 }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Flushing> {
        self.flushing.clone()
    }

    /// `changes` will be on disk, and `done` told then.
    pub(super) fn submit(&self, changes: Vec<Change>, done: Done) {
        match &self.way {
            Way::Inline(disk) => done.tell(told(&disk.commit(&changes))),
            Way::Thread { requests, .. } => {
                let request = Request::Flush(changes, done);
                let sent = requests.as_ref().map(|requests| requests.send(request));
                if let Some(Err(mpsc::SendError(Request::Flush(_, done)))) = sent {
                    done.tell(Err(io::Error::other("the store's thread is gone")));
                }
            }
        }
    }

    /// What the disk refuses from here on has failed.
    pub(super) fn give_up(&self) {
        if let Way::Thread { requests: Some(requests), .. } = &self.way {
            // A thread that is gone has given up.
            drop(requests.send(Request::GiveUp));
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.give_up();
        if let Way::Thread { requests, thread } = &mut self.way {
            *requests = None;
            if let Some(thread) = thread.take() {
                // A panic was printed by its thread; there is nobody to tell it again.
                drop(thread.join());
            }
        }
    }
}

fn told(result: &Result<(), StorageError>) -> io::Result<()> {
    result.as_ref().copied().map_err(|error| io::Error::other(crate::chain(error)))
}

struct Worker {
    disk: Disk,
    queue: mpsc::Receiver<Request>,
    state: watch::Sender<Flushing>,
    /// What came while a commit was tried again.
    backlog: VecDeque<(Vec<Change>, Done)>,
    give_up: bool,
}

impl Worker {
    fn run(mut self) {
        while let Some((mut changes, done)) = self.next() {
            let mut waiting = vec![done];
            while waiting.len() < GROUP
                && let Some((more, done)) = self.try_next()
            {
                changes.extend(more);
                waiting.push(done);
            }
            let result = self.commit(&changes);
            for done in waiting {
                done.tell(told(&result));
            }
        }
    }

    /// The next request; none when everybody who could ask is gone.
    fn next(&mut self) -> Option<(Vec<Change>, Done)> {
        loop {
            if let Some(request) = self.try_next() {
                return Some(request);
            }
            match self.queue.recv().ok()? {
                Request::Flush(changes, done) => return Some((changes, done)),
                Request::GiveUp => self.give_up = true,
            }
        }
    }

    fn try_next(&mut self) -> Option<(Vec<Change>, Done)> {
        while let Ok(request) = self.queue.try_recv() {
            match request {
                Request::Flush(changes, done) => self.backlog.push_back((changes, done)),
                Request::GiveUp => self.give_up = true,
            }
        }
        self.backlog.pop_front()
    }

    /// Tries until the disk takes `changes`, or the store is closing.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        let started = Instant::now();
        // Nobody waits for this: to wake them all would cost more than the rest of the way.
        self.state.send_if_modified(|state| {
            state.since = Some(started);
            false
        });
        loop {
            match self.disk.commit(changes) {
                Ok(()) => {
                    self.state.send_if_modified(|state| state.succeed(started.elapsed()));
                    return Ok(());
                }
                Err(error) if self.give_up => return Err(error),
                Err(error) => self.state.send_modify(|state| state.fail(error)),
            }
            match self.queue.recv_timeout(RETRY) {
                Ok(Request::Flush(changes, done)) => self.backlog.push_back((changes, done)),
                Ok(Request::GiveUp) | Err(mpsc::RecvTimeoutError::Disconnected) => self.give_up = true,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Flushing {
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
