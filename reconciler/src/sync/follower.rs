//! The loop of one source.

use super::SyncReport;
use super::accept::{Refusal, Revised, accept};
use super::duty::Duties;
use super::record::record;
use crate::controllers::Note;
use crate::events::Recorder;
use crate::git::watch::RepositoryWatch;
use crate::git::{Fetched, GitError, Outcome, Repository, schedule};
use crate::random::OsRandom;
use crate::random::RandomSource;
use crate::store::Store;
use jiff::{SignedDuration, Timestamp};
use manifests::config::GitSource;
use manifests::parse::{Parsed, SourceFile, parse};
use manifests::revision::Revision;
use manifests::{Kind, ObjectKey};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Asks for a look, and for its report.
pub(super) type Request = oneshot::Sender<SyncReport>;

/// The interval of a source whose configuration was not validated.
const FALLBACK_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// Bytes of a message that an event carries; the status has all of it.
const EVENT_MESSAGE_BYTES: usize = 1000;

/// One source, and how to tell of it.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) source: GitSource,
    pub(super) dir: PathBuf,
    pub(super) store: Arc<Store>,
    pub(super) recorder: Recorder,
    pub(super) inbox: mpsc::Receiver<Request>,
    pub(super) attempted: watch::Sender<Option<Timestamp>>,
    pub(super) reaches: watch::Sender<bool>,
    pub(super) duties: Duties,
    pub(super) reports: broadcast::Sender<SyncReport>,
}

/// What a look brought from the repository, before it is judged.
enum Seen {
    /// The commit in force.
    Same,
    /// A commit, read and parsed.
    Commit(Box<Fetched>, Parsed),
}

/// What the looks of one process share.
struct Repeated {
    repository: Option<Repository>,
    /// False until the manifests were read once: the configuration or the
    /// program may be others than when the commit took force.
    has_read: bool,
    failures: u32,
    /// Before that, nothing is looked at again that could not be reached, unless somebody asks.
    next_at: Instant,
}

impl Follower {
    /// Looks until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let watch = RepositoryWatch::start(&self.source).unwrap_or_else(|error| {
            let error = crate::chain(&error);
            tracing::warn!(source = self.source.name, error, "looks by interval only");
            None
        });
        let mut repeated =
            Repeated { repository: None, has_read: false, failures: 0, next_at: Instant::now() };
        let mut random = OsRandom::new();
        let mut waiting = Vec::new();
        loop {
            if !self.on_duty(&mut waiting, &stop).await {
                return;
            }
            // Who asks during the look below is answered by the next one.
            while let Ok(request) = self.inbox.try_recv() {
                waiting.push(request);
            }
            if repeated.failures == 0 || !waiting.is_empty() || Instant::now() >= repeated.next_at {
                let report = self.look(&mut repeated).await;
                self.reaches.send_replace(report.result != "FetchFailed");
                for request in waiting.drain(..) {
                    // Who asked may have gone.
                    drop(request.send(report.clone()));
                }
                // Without a subscriber nobody misses it.
                drop(self.reports.send(report));
                repeated.next_at = Instant::now() + self.delay(repeated.failures, random.next());
            }
            let next_at = repeated.next_at;
            let changed = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                request = self.inbox.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return,
                },
                () = changed => repeated.next_at = Instant::now(),
                () = tokio::time::sleep_until(next_at) => {}
            }
        }
    }

    /// Waits until this member is to look, and tells who asks meanwhile that another one does; false
    /// if there is nothing to wait for any more.
    async fn on_duty(&mut self, waiting: &mut Vec<Request>, stop: &CancellationToken) -> bool {
        loop {
            let name = &self.source.name;
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                mine = self.duties.wait_for(name) => return mine,
                () = std::future::ready(()), if !waiting.is_empty() => {}
                request = self.inbox.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return false,
                },
            }
            // What was not reached then may be reached next time.
            self.reaches.send_replace(true);
            for request in waiting.drain(..) {
                // Who asked may have gone.
                drop(request.send(self.elsewhere()));
            }
        }
    }

    /// The report of a member that does not look.
    fn elsewhere(&self) -> SyncReport {
        let source = self.source.name.clone();
        let message = self.duties.holder(&source).map_or_else(
            || "the cluster has no leader now: nobody looks at Git".to_owned(),
            |node| format!("{node} looks at it for the cluster; ask there"),
        );
        SyncReport { source, result: "Elsewhere".into(), message, ..SyncReport::default() }
    }

    fn delay(&self, failures: u32, random: u64) -> Duration {
        let interval = schedule::parse_interval(&self.source.interval).unwrap_or(FALLBACK_INTERVAL);
        let now = Timestamp::now();
        let at = schedule::next_fetch_at(interval, now, failures, random);
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    }

    /// Looks once, and makes what is found the truth, or tells why not.
    async fn look(&self, repeated: &mut Repeated) -> SyncReport {
        let started = Instant::now();
        let before = self.in_force();
        let seen = self.see(repeated, before.as_deref()).await;
        let judged = seen.and_then(|seen| match seen {
            Seen::Same => Ok(Revised::default()),
            Seen::Commit(fetched, parsed) => {
                let repository = repeated.repository.as_ref();
                let place = repository.map_or_else(Default::default, |r| (r.url().to_owned(), r.reference()));
                self.store.read(|state| accept(state, &self.source, place, *fetched, parsed))
            }
        });
        let previous_commit = before.as_deref().map(|r| r.spec.commit.clone()).unwrap_or_default();
        let report = self.settle(judged, previous_commit).await;
        repeated.failures = if report.result == "Synced" { 0 } else { repeated.failures.saturating_add(1) };
        self.attempted.send_replace(Some(Timestamp::now()));
        let duration_millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        SyncReport { duration_millis, ..report }
    }

    /// The source's Revision, if anything of it was agreed.
    fn in_force(&self) -> Option<Box<Revision>> {
        let object = self.store.get(&self.key())?;
        let revision: &Revision = (&*object).try_into().ok()?;
        (!revision.spec.commit.is_empty()).then(|| Box::new(revision.clone()))
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(Kind::Revision, "", self.source.name.as_str())
    }

    /// Fetches and parses, on a thread that may block.
    async fn see(&self, repeated: &mut Repeated, before: Option<&Revision>) -> Result<Seen, Refusal> {
        let repository = match repeated.repository.take() {
            Some(repository) => repository,
            None => Repository::open(&self.source, &self.dir).map_err(|error| refused(&error, before))?,
        };
        // Another address or branch is the user's word, not a rewritten history.
        let same_place =
            |r: &&Revision| r.spec.url == repository.url() && r.spec.reference == repository.reference();
        let in_force = before.filter(same_place).map(|r| r.spec.commit.clone());
        let again = !repeated.has_read;
        let blocking = tokio::task::spawn_blocking(move || {
            let mut repository = repository;
            let seen = see(&mut repository, in_force.as_deref(), again);
            (repository, seen)
        });
        let (repository, seen) = blocking.await.map_err(|error| Refusal {
            result: "FetchFailed",
            commit: String::new(),
            message: format!("the look ended unexpectedly: {error}"),
        })?;
        repeated.repository = Some(repository);
        let seen = seen.map_err(|error| refused(&error, before))?;
        repeated.has_read = true;
        Ok(seen)
    }

    /// Writes what was judged, and tells.
    async fn settle(&self, judged: Result<Revised, Refusal>, previous_commit: String) -> SyncReport {
        let source = self.source.name.clone();
        let (spec, mut report) = match judged {
            Ok(Revised { spec, message }) => {
                let commit =
                    spec.as_ref().map_or_else(|| previous_commit.clone(), |spec| spec.commit.clone());
                (
                    spec,
                    SyncReport { source, result: "Synced".into(), commit, message, ..SyncReport::default() },
                )
            }
            Err(Refusal { result, commit, message }) => {
                (None, SyncReport { source, result: result.into(), commit, message, ..SyncReport::default() })
            }
        };
        let subject =
            spec.as_ref().map(|spec| (spec.subject.clone(), spec.author.clone(), spec.objects.len()));
        match record(&self.store, &report, spec).await {
            Ok(false) => {}
            Ok(true) => self.tell(&report, subject),
            Err(error) => {
                report.result = "FetchFailed".into();
                report.message = format!("cannot be agreed on: {}", crate::chain(&error));
                tracing::error!(source = report.source, message = report.message);
            }
        }
        SyncReport { previous_commit, ..report }
    }

    fn tell(&self, report: &SyncReport, revised: Option<(String, String, usize)>) {
        let SyncReport { source, result, commit, message, .. } = report;
        let is_synced = result == "Synced";
        if is_synced {
            tracing::info!(source, commit, "synced");
        } else {
            tracing::warn!(source, commit, result, message, "not synced");
        }
        let text = match revised {
            Some((subject, author, objects)) => {
                format!("{} by {author}: {subject} ({objects} objects)", short(commit))
            }
            None if is_synced => format!("{} is in force", short(commit)),
            None => cut(message).to_owned(),
        };
        let reason = match result.as_str() {
            "Synced" => "Synced",
            "Invalid" => "Invalid",
            "HistoryRewritten" => "HistoryRewritten",
            "Emptied" => "Emptied",
            _ => "FetchFailed",
        };
        self.recorder.record(Note { about: self.key(), warning: !is_synced, reason, message: text });
    }
}

fn see(repository: &mut Repository, in_force: Option<&str>, again: bool) -> Result<Seen, GitError> {
    let fetched = match repository.fetch(in_force)? {
        Outcome::New(fetched) => fetched,
        Outcome::Unchanged => match in_force {
            Some(in_force) if again => repository.fetch_again(in_force)?,
            _ => return Ok(Seen::Same),
        },
    };
    let mut fetched = Box::new(fetched);
    let files = std::mem::take(&mut fetched.files).into_iter();
    let files = files.map(|file| SourceFile { path: file.path, content: file.content }).collect();
    Ok(Seen::Commit(fetched, parse(files)))
}

fn refused(error: &GitError, before: Option<&Revision>) -> Refusal {
    let holds_objects = before.is_some_and(|r| !r.spec.objects.is_empty());
    let result = if matches!(error, GitError::HistoryRewritten { .. }) {
        "HistoryRewritten"
    } else if holds_objects && matches!(error, GitError::NoSuchPath { .. }) {
        "Emptied"
    } else {
        "FetchFailed"
    };
    let commit = error.commit().unwrap_or_default().to_owned();
    Refusal { result, commit, message: crate::chain(error) }
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(EVENT_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
