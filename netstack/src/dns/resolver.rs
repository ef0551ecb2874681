//! Asks other servers, each question once however many wait for its answer.

use super::cache::{Key, Stored};
use super::desk::{Asked, Desk, Verdict};
use super::exchange;
use super::foreign::Said;
use super::servers::Servers;
use super::tasks::Tasks;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long each server has, round by round.
const ROUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How long all of them have together.
const MOST_TIME: Duration = Duration::from_secs(5);
/// After how long somebody gets an answer that is too old. Source: RFC 8767, 5.
const PATIENCE: Duration = Duration::from_millis(1800);
/// How long a search path is followed for somebody who could go on by himself.
const SEARCH_PATIENCE: Duration = Duration::from_secs(1);
/// How many questions to others one question may need: names on a search path, aliases.
const MOST_STEPS: usize = 16;

/// Finds answers that take time.
#[derive(Debug)]
pub(super) struct Resolver {
    desk: Arc<Desk>,
    servers: Servers,
    /// What is being asked; it closes when there is an answer in the cache.
    open: Mutex<HashMap<Box<[u8]>, watch::Receiver<()>>>,
    tasks: Tasks,
}

impl Resolver {
    pub(super) fn new(desk: Arc<Desk>, servers: Servers) -> Self {
        Self { desk, servers, open: Mutex::default(), tasks: Tasks::default() }
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// The packet is answered, in `out`, however long it takes to ask others.
    ///
    /// # Cancel safety
    /// When dropped, what is being asked goes on being asked, and is in the cache later.
    pub(super) async fn answer(self: &Arc<Self>, asked: Asked<'_>, out: &mut Vec<u8>) -> Verdict {
        let mut before: Option<Box<Key>> = None;
        let mut asked = asked;
        for _ in 0..MOST_STEPS {
            let (key, is_search) = match self.desk.answer(asked, out) {
                Verdict::Ask(key, is_search) => (key, is_search),
                verdict @ (Verdict::Silence | Verdict::Answered) => return verdict,
            };
            if before.as_ref().is_some_and(|before| before.bytes() == key.bytes()) {
                // What came is gone already.
                break;
            }
            let time = if is_search { SEARCH_PATIENCE } else { MOST_TIME * 2 };
            let in_time = tokio::time::timeout(time, self.fetch(&key)).await.is_ok();
            before = Some(key);
            // Who searches goes on by itself, if others are too slow.
            asked = Asked { now: Instant::now().into_std(), again: true, searches: in_time, ..asked };
        }
        self.desk.give_up(asked.packet, out)
    }

    /// The cache has an answer, or knows that there is none.
    async fn fetch(self: &Arc<Self>, key: &Key) {
        let mut done = self.begin(key);
        let now = Instant::now().into_std();
        let has_stale = self.desk.cache().has_stale(key.bytes(), now);
        if !has_stale {
            let _closed = done.changed().await;
            return;
        }
        if tokio::time::timeout(PATIENCE, done.changed()).await.is_err() {
            self.desk.cache().revive(key.bytes(), Instant::now().into_std());
        }
    }

    fn begin(self: &Arc<Self>, key: &Key) -> watch::Receiver<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = open.get(key.bytes()) {
            return done.clone();
        }
        let (end, done) = watch::channel(());
        open.insert(key.bytes().into(), done.clone());
        let (this, key) = (Arc::clone(self), *key);
        self.tasks.spawn(async move {
            let asked = tokio::time::timeout(MOST_TIME, this.ask_all(&key)).await;
            this.keep(&key, asked.ok().flatten());
            this.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key.bytes());
            drop(end);
        });
        done
    }

    fn keep(&self, key: &Key, stored: Option<Stored>) {
        let now = Instant::now().into_std();
        self.desk.counters().count_forwarded(stored.is_some());
        let mut cache = self.desk.cache();
        match stored {
            Some(stored) => cache.insert(key.bytes(), stored, now),
            None if cache.revive(key.bytes(), now) => {}
            None => cache.insert(key.bytes(), Stored::failure(), now),
        }
        self.desk.counters().set_entries(cache.len());
    }

    /// What the first that knows an answer says.
    async fn ask_all(&self, key: &Key) -> Option<Stored> {
        let (name, ..) = key.parts();
        for time in ROUNDS {
            let mut silent = false;
            for server in self.servers.of(name, Instant::now().into_std()) {
                let said = self.ask(server, key, time).await;
                match said {
                    Ok(Said::Answer(stored)) => return Some(stored),
                    Ok(Said::Refused | Said::Old | Said::Truncated) => {}
                    Err(is_silent) => silent |= is_silent,
                }
            }
            if !silent {
                // All have said no: they would say it again.
                return None;
            }
        }
        None
    }

    /// # Errors
    /// True if it might answer yet.
    async fn ask(&self, server: SocketAddr, key: &Key, time: Duration) -> Result<Said, bool> {
        let said = exchange::ask(server, key, time).await;
        self.servers.note(server, said.is_ok(), Instant::now().into_std());
        said.map_err(|error| error.kind() == std::io::ErrorKind::TimedOut)
    }
}
