//! Notes become Kubernetes `Event` objects: one per series, counted.
//!
//! A series is the same words about the same object. It is written when it
//! begins, and then at most once per [`SERIES_INTERVAL`], however often it is noted.

mod allowance;

use crate::controllers::Note;
use crate::controllers::garbage::DEFAULT_NAMESPACE;
use crate::store::{Leadership, Store, Write};
use allowance::Allowances;
use jiff::Timestamp;
use manifests::k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Notes that may wait to be taken in; more are dropped, and their number logged.
const QUEUE: usize = 4096;
/// Notes that come this close together share a write, off the path of what they tell of.
const GATHER: Duration = Duration::from_millis(50);
/// A series is written again at most this often.
const SERIES_INTERVAL: Duration = Duration::from_secs(10);
/// A series that was silent this long is forgotten; the store still counts on.
const SERIES_MEMORY: Duration = Duration::from_secs(600);

/// Takes notes from anywhere; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    notes: mpsc::Sender<(Note, Timestamp)>,
}

/// Writes what was recorded.
#[derive(Debug)]
pub struct EventWriter {
    notes: mpsc::Receiver<(Note, Timestamp)>,
    component: String,
    host: String,
    series: HashMap<u64, Series>,
    allowances: Allowances,
}

#[derive(Debug)]
struct Series {
    note: Note,
    /// Times that it was noted and not written yet.
    pending: i32,
    first: Timestamp,
    last: Timestamp,
    written_at: Option<Instant>,
}

/// A recorder and its writer. Events name `host` as the node that they come from.
#[must_use]
pub fn recorder(host: &str) -> (Recorder, EventWriter) {
    let (sender, notes) = mpsc::channel(QUEUE);
    let (series, allowances) = (HashMap::new(), Allowances::default());
    let writer = EventWriter { notes, component: "keel".into(), host: host.to_owned(), series, allowances };
    (Recorder { notes: sender }, writer)
}

impl Recorder {
    /// Takes `note` in, to be written soon. Never waits.
    pub fn record(&self, note: Note) {
        if let Err(error) = self.notes.try_send((note, Timestamp::now())) {
            tracing::debug!(%error, "an event is lost");
        }
    }
}

impl EventWriter {
    /// Writes until `stop` is cancelled or every [`Recorder`] is gone, and then what is left.
    pub async fn run(mut self, store: Arc<Store>, stop: CancellationToken) {
        let mut flush_at: Option<Instant> = None;
        loop {
            let flush = async {
                match flush_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                note = self.notes.recv() => {
                    let Some((note, at)) = note else { break };
                    let due_at = self.take(note, at);
                    flush_at = Some(flush_at.map_or(due_at, |set| set.min(due_at)));
                    continue;
                }
                () = flush => {}
            }
            self.write_due(&store, Instant::now()).await;
            flush_at = self.next_at();
        }
        while let Ok((note, at)) = self.notes.try_recv() {
            self.take(note, at);
        }
        if store.cluster().leadership() != Leadership::Nobody {
            self.write_due(&store, Instant::now() + SERIES_INTERVAL).await;
        }
    }

    /// Counts `note`; returns when its series is due.
    fn take(&mut self, note: Note, at: Timestamp) -> Instant {
        let series = self.series.entry(hash_of(&note)).or_insert_with(|| Series {
            note,
            pending: 0,
            first: at,
            last: at,
            written_at: None,
        });
        series.pending = series.pending.saturating_add(1);
        series.last = at;
        let soon = Instant::now() + GATHER;
        series.written_at.map_or(soon, |written| (written + SERIES_INTERVAL).max(soon))
    }

    fn next_at(&self) -> Option<Instant> {
        let waiting = self.series.values().filter(|series| series.pending > 0);
        waiting.map(|series| series.written_at.map_or_else(Instant::now, |at| at + SERIES_INTERVAL)).min()
    }

    async fn write_due(&mut self, store: &Store, now: Instant) {
        let due = |series: &Series| {
            series.pending > 0 && series.written_at.is_none_or(|at| at + SERIES_INTERVAL <= now)
        };
        let mut ids: Vec<u64> =
            self.series.iter().filter(|(_, series)| due(series)).map(|(id, _)| *id).collect();
        let allowances = &mut self.allowances;
        ids.retain(|id| {
            let Some(series) = self.series.get_mut(id) else { return false };
            let may = allowances.take(&series.note.about, now);
            if !may {
                (series.pending, series.written_at) = (0, Some(now));
            }
            may
        });
        let batches = ids.iter().filter_map(|id| Some(vec![self.write_of(store, *id, self.series.get(id)?)]));
        let batches = batches.collect();
        let results = store.write_each(batches).await;
        for (id, result) in ids.into_iter().zip(results) {
            let Some(series) = self.series.get_mut(&id) else { continue };
            // Also after a failure: the next try is then later, with the count kept.
            series.written_at = Some(Instant::now());
            match result {
                Ok(_) => series.pending = 0,
                Err(error) => tracing::debug!(%error, "an event is not written"),
            }
        }
        let silent = |series: &Series| {
            series.pending == 0 && series.written_at.is_some_and(|at| at + SERIES_MEMORY <= now)
        };
        self.series.retain(|_, series| !silent(series));
    }

    fn write_of(&self, store: &Store, id: u64, series: &Series) -> Write {
        let about = &series.note.about;
        let namespace = if about.namespace.is_empty() { DEFAULT_NAMESPACE } else { about.namespace.as_str() };
        let name = format!("{}.{id:016x}", about.name);
        let stored = store.get(&ObjectKey::new(Kind::Event, namespace, name.as_str()));
        let event = self.event_of(store, series);
        let is_of_same = |stored: &Event| stored.involved_object.uid == event.involved_object.uid;
        if let Some(Object::Event(stored)) = stored.as_deref()
            && is_of_same(stored)
        {
            let mut event = (**stored).clone();
            event.count = Some(event.count.unwrap_or(1).saturating_add(series.pending));
            event.last_timestamp = Some(Time(series.last));
            return Write::Update(event.into());
        }
        let mut event = event;
        event.metadata.namespace = Some(namespace.to_owned());
        event.metadata.name = Some(name);
        // One about an object that had the name before tells nothing of this one.
        if stored.is_some() { Write::Update(event.into()) } else { Write::Create(event.into()) }
    }

    fn event_of(&self, store: &Store, series: &Series) -> Event {
        let Series { note, pending, first, last, .. } = series;
        let object = store.get(&note.about);
        let meta = object.as_ref().map(|object| object.metadata());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            involved_object: ObjectReference {
                api_version: Some(note.about.kind.api_version().into()),
                kind: Some(note.about.kind.as_str().into()),
                namespace: some(&note.about.namespace),
                name: Some(note.about.name.clone()),
                uid: meta.and_then(|meta| meta.uid.clone()),
                resource_version: meta.and_then(|meta| meta.resource_version.clone()),
                field_path: None,
            },
            type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(note.reason.into()),
            message: Some(note.message.clone()),
            count: Some(*pending),
            first_timestamp: Some(Time(*first)),
            last_timestamp: Some(Time(*last)),
            source: Some(EventSource { component: Some(self.component.clone()), host: some(&self.host) }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: some(&self.host),
            ..Event::default()
        }
    }
}

/// Names the series of `note`.
fn hash_of(note: &Note) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&note.about, note.warning, note.reason, &note.message).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
