//! The thread that writes: decides, persists, publishes, answers, in this order.

use super::apply::{Applied, Decided, View};
use super::disk::Disk;
use super::watch::{Change, Event};
use super::{Shared, StorageError, Write, WriteError};
use crate::controllers::Context;
use crate::random::OsRandom;
use jiff::Timestamp;
use manifests::Object;
use std::sync::{Arc, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Batches in one commit after which no more are taken in.
const GROUP: usize = 512;

/// A batch, and where its outcome goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Vec<Write>,
    pub(super) answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Arc<Object>>, WriteError>;

/// The only one who changes the file and the state.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    changed: watch::Sender<u64>,
    queue: mpsc::Receiver<Vec<Request>>,
    random: OsRandom,
    /// Set by a failed commit: whether it is on disk is unknown until the disk answers again.
    doubtful: Option<Vec<Decided>>,
}

impl Writer {
    pub(super) const fn new(
        disk: Disk,
        shared: Arc<Shared>,
        changed: watch::Sender<u64>,
        queue: mpsc::Receiver<Vec<Request>>,
    ) -> Self {
        Self { disk, shared, changed, queue, random: OsRandom::new(), doubtful: None }
    }

    /// Writes until every sender is gone.
    pub(super) fn run(mut self) {
        while let Some(mut group) = self.queue.blocking_recv() {
            while group.len() < GROUP
                && let Ok(next) = self.queue.try_recv()
            {
                group.extend(next);
            }
            self.commit(group);
        }
    }

    /// One durable transaction for all that the batches of `group` decide.
    fn commit(&mut self, group: Vec<Request>) {
        if let Err(error) = self.recover() {
            let error = WriteError::Storage(error);
            return answer_all(group.into_iter().map(|request| (request.answer, Err(error.clone()))));
        }
        let (answers, changes) = self.decide(group);
        if let Some(newest) = changes.last().map(|change| change.revision) {
            if let Err(error) = self.disk.commit(&changes, newest) {
                self.doubtful = Some(changes);
                let refuse = |answer: Answer| answer.and(Err(WriteError::Storage(error.clone())));
                return answer_all(answers.into_iter().map(|(to, answer)| (to, refuse(answer))));
            }
            self.publish(changes, newest);
        }
        answer_all(answers);
    }

    /// Nothing is in doubt: what a failed commit left is known, and visible if it is there.
    fn recover(&mut self) -> Result<(), StorageError> {
        if self.doubtful.is_none() {
            return Ok(());
        }
        let stored = self.disk.recover()?;
        let changes = self.doubtful.take().unwrap_or_default();
        // A commit is all or nothing, so the newest revision tells of every change.
        if let Some(newest) = changes.last().map(|change| change.revision).filter(|newest| *newest == stored)
        {
            self.publish(changes, newest);
        }
        tracing::info!(revision = stored, "the store's file can be written again");
        Ok(())
    }

    fn decide(&mut self, group: Vec<Request>) -> (Vec<(oneshot::Sender<Answer>, Answer)>, Vec<Decided>) {
        let mut context = Context { now: Timestamp::now(), random: &mut self.random };
        let visible = self.shared.read();
        let mut view = View::new(&visible.state);
        let mut changes = Vec::new();
        let answers = group
            .into_iter()
            .map(|Request { batch, answer }| {
                let result = view.apply(batch, &mut context);
                let result = result.map(|Applied { answers, changes: more }| {
                    changes.extend(more);
                    answers
                });
                (answer, result)
            })
            .collect();
        (answers, changes)
    }

    fn publish(&self, changes: Vec<Decided>, newest: u64) {
        let mut visible = self.shared.0.write().unwrap_or_else(PoisonError::into_inner);
        for Decided { key, is_new, json, object, revision } in changes {
            let (change, size_bytes) = match json {
                Some(json) => {
                    visible.state.insert(Arc::clone(&object), revision);
                    (if is_new { Change::Added } else { Change::Modified }, json.len())
                }
                None => {
                    visible.state.remove(&key, revision);
                    (Change::Deleted, 1024)
                }
            };
            visible.ring.push(Event { change, object, revision }, size_bytes);
        }
        drop(visible);
        self.changed.send_replace(newest);
    }
}

fn answer_all(answers: impl IntoIterator<Item = (oneshot::Sender<Answer>, Answer)>) {
    for (to, answer) in answers {
        // Whoever asked may have gone; the write stands all the same.
        drop(to.send(answer));
    }
}
