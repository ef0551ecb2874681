//! Brings writes into the log: all that wait become one command, and so share a flush.

use super::StorageError;
use super::cluster::{LEADER_PATIENCE, Leadership, Term};
use super::command::{Answer, Answers, Command};
use super::error::WriteError;
use super::forward::Forwarder;
use super::log::Flushing;
use super::patience::held;
use super::raft::Raft;
use super::replica::WallClock;
use super::snapshot::Head;
use crate::random::OsRandom;
use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Batches in one command after which no more are taken in.
const GROUP: usize = 1024;
/// The same in bytes, but for a single batch that is longer.
const GROUP_BYTES: usize = 1 << 20;
/// How long writes wait for somebody to lead: an election takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// A batch in the log's form, and where its outcome goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Bytes,
    /// It counts only while this member leads in that term; in any if there is none.
    pub(super) term: Option<Term>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Takes in requests; brings them to the leader where this member does not lead.
pub(super) struct Proposer {
    raft: Raft,
    queue: mpsc::Receiver<Vec<Request>>,
    flushing: watch::Receiver<Flushing>,
    leadership: watch::Receiver<Leadership>,
    /// With it, how far the log is applied here.
    forwarder: Option<(Forwarder, watch::Receiver<Head>)>,
    clock: WallClock,
    chance: OsRandom,
    /// What did not fit into the last command.
    left: Vec<Request>,
}

impl Proposer {
    pub(super) fn new(
        raft: Raft,
        queue: mpsc::Receiver<Vec<Request>>,
        (flushing, leadership): (watch::Receiver<Flushing>, watch::Receiver<Leadership>),
        forwarder: Option<(Forwarder, watch::Receiver<Head>)>,
        clock: WallClock,
    ) -> Self {
        let (chance, left) = (OsRandom::new(), Vec::new());
        Self { raft, queue, flushing, leadership, forwarder, clock, chance, left }
    }

    /// Proposes until every sender is gone.
    pub(super) async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            let led = self.led().await;
            let (batches, answers): (Vec<_>, Vec<_>) = self.valid(group).unzip();
            let decided = match led {
                Ok(()) if answers.is_empty() => continue,
                Ok(()) => self.decide(batches).await,
                Err(error) => Err(error),
            };
            match decided {
                Ok((result, 0)) => tell(answers, Ok(result)),
                Ok((result, index)) => self.tell_once_seen(index, answers, result),
                Err(error) => tell(answers, Err(error)),
            }
        }
    }

    /// Who asked reads what it wrote: it is told when this member shows it. The next writes do not
    /// wait for that.
    fn tell_once_seen(&self, index: u64, answers: Vec<oneshot::Sender<Answer>>, result: Answers) {
        let applied = self.forwarder.as_ref().map(|(_, applied)| applied.clone());
        let works = self.flushing.borrow().stuck(Instant::now()).is_none();
        let Some(mut applied) = applied.filter(|_| works) else {
            // Nothing is applied here before the disk works again.
            return tell(answers, Ok(result));
        };
        tokio::spawn(held(async move {
            let seen = applied.wait_for(|head| head.last.is_some_and(|last| last.index >= index));
            // Cut off meanwhile: it is written all the same, and will be seen later.
            let _late = tokio::time::timeout(LEADER_PATIENCE, seen).await;
            tell(answers, Ok(result));
        }));
    }

    /// Somebody leads.
    async fn led(&mut self) -> Result<(), WriteError> {
        let found = self.leadership.wait_for(|leadership| *leadership != Leadership::Nobody);
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(WriteError::Closed),
            Err(_) => {
                let failing = self.flushing.borrow().failing.clone();
                Err(failing.map_or(WriteError::NoLeader, WriteError::Storage))
            }
        }
    }

    /// Those that still count; the others are told.
    fn valid(&self, group: Vec<Request>) -> impl Iterator<Item = (Bytes, oneshot::Sender<Answer>)> {
        let leads = *self.leadership.borrow() == Leadership::Leads;
        let now = leads.then(|| Term(self.raft.metrics().borrow().current_term));
        group.into_iter().filter_map(move |Request { batch, term, answer }| {
            if term.is_none() || term == now {
                return Some((batch, answer));
            }
            // Whoever asked may have gone.
            drop(answer.send(Err(WriteError::Deposed)));
            None
        })
    }

    /// Brings `batches` to whoever leads. With the answers goes how far the log has to be applied here for them to
    /// be seen; 0 if it is.
    async fn decide(&mut self, batches: Vec<Bytes>) -> Result<(Answers, u64), WriteError> {
        let followed = *self.leadership.borrow();
        if let Some((forwarder, _)) = &self.forwarder
            && let Some(leader) = forwarder.leader()
        {
            return tokio::select! {
                biased;
                (answers, index) = forwarder.write(leader, batches) => Ok((Answers(answers), index)),
                // Who was asked may be cut off and never answer; the writes that wait are for the next.
                () = succeeded(&mut self.leadership, followed) => Err(WriteError::Undecided),
            };
        }
        let command = Command::new((self.clock)(), &mut self.chance, batches);
        self.propose(command).await.map(|answers| (answers, 0))
    }

    /// All that waits, up to the limits.
    async fn next_group(&mut self) -> Option<Vec<Request>> {
        if self.left.is_empty() {
            self.left = self.queue.recv().await?;
        }
        while self.left.len() < GROUP
            && let Ok(more) = self.queue.try_recv()
        {
            self.left.extend(more);
        }
        let mut bytes = 0;
        let mut fits = |request: &Request| {
            bytes += request.batch.len();
            bytes <= GROUP_BYTES
        };
        let count = self.left.iter().take(GROUP).take_while(|request| fits(request)).count().max(1);
        let rest = self.left.split_off(count.min(self.left.len()));
        Some(std::mem::replace(&mut self.left, rest))
    }

    async fn propose(&mut self, command: Command) -> Result<Answers, WriteError> {
        self.disk_works().await?;
        tokio::select! {
            biased;
            result = self.raft.client_write(command) => result.map(|answer| answer.data).map_err(refused),
            error = failing(&mut self.flushing) => Err(WriteError::Storage(error)),
            () = lost(&mut self.leadership) => Err(WriteError::Undecided),
        }
    }
}

impl Proposer {
    /// A disk that refused is asked once more, in case it has room by now.
    async fn disk_works(&mut self) -> Result<(), WriteError> {
        let failures = self.flushing.borrow().failures;
        if failures == 0 {
            return Ok(());
        }
        let tried = self.flushing.wait_for(|flushing| flushing.failures != failures).await;
        let failing = tried.map_err(|_| WriteError::Closed)?.failing.clone();
        failing.map_or(Ok(()), |error| Err(WriteError::Storage(error)))
    }
}

/// Waits for another leader than `before`.
async fn succeeded(leadership: &mut watch::Receiver<Leadership>, before: Leadership) {
    let is_other = |now: &Leadership| *now != before && *now != Leadership::Nobody;
    if leadership.wait_for(is_other).await.is_err() {
        // The store is closing; whoever is asked says so.
        std::future::pending::<()>().await;
    }
}

/// Waits for the majority to be lost.
async fn lost(leadership: &mut watch::Receiver<Leadership>) {
    if leadership.wait_for(|leadership| *leadership != Leadership::Leads).await.is_err() {
        // Nobody looks for a majority in a cluster of one.
        std::future::pending::<()>().await;
    }
}

/// Waits for the disk to refuse.
async fn failing(flushing: &mut watch::Receiver<Flushing>) -> StorageError {
    loop {
        if let Some(error) = flushing.borrow_and_update().failing.clone() {
            return error;
        }
        if flushing.changed().await.is_err() {
            // The store is closing; raft says so.
            std::future::pending::<()>().await;
        }
    }
}

fn refused(
    error: RaftError<crate::peer::NodeId, ClientWriteError<crate::peer::NodeId, crate::peer::Peer>>,
) -> WriteError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => WriteError::NoLeader,
        // Not asked for by a write.
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => WriteError::Closed,
        RaftError::Fatal(_) => WriteError::Closed,
    }
}

fn tell(answers: Vec<oneshot::Sender<Answer>>, result: Result<Answers, WriteError>) {
    match result {
        Ok(Answers(results)) => {
            for (answer, result) in answers.into_iter().zip(results) {
                // Whoever asked may have gone; the write stands all the same.
                drop(answer.send(result));
            }
        }
        Err(error) => {
            for answer in answers {
                drop(answer.send(Err(error.clone())));
            }
        }
    }
}
