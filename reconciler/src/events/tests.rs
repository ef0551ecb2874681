//! What becomes of notes.

use super::*;
use crate::testing::config_map;
use tempfile::TempDir;

fn note(reason: &'static str, message: &str) -> Note {
    let about = ObjectKey::new(Kind::ConfigMap, "default", "one");
    Note { about, warning: true, reason, message: message.into() }
}

fn events(store: &Store) -> Vec<Event> {
    let (objects, _) = store.list(Kind::Event, None);
    let to_event = |object: &Arc<Object>| <&Event>::try_from(&**object).unwrap().clone();
    objects.iter().map(to_event).collect()
}

async fn until(store: &Store, is_so: impl Fn(&[Event]) -> bool) {
    let mut changes = store.changes();
    while !is_so(&events(store)) {
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_words_are_one_event_that_counts_and_is_written_seldom() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let about = store.write(vec![Write::Create(config_map("one", "1"))]).await.unwrap().remove(0);
    let (recorder, writer) = recorder("n");
    let stop = CancellationToken::new();
    let task = tokio::spawn(writer.run(Arc::clone(&store), stop.clone()));
    for _ in 0..5 {
        recorder.record(note("BackOff", "restarting"));
    }
    recorder.record(note("Failed", "no such image"));
    until(&store, |events| events.len() == 2).await;
    let found = events(&store);
    let series = found.iter().find(|event| event.reason.as_deref() == Some("BackOff")).unwrap();
    assert_eq!(series.count, Some(5));
    assert_eq!(series.type_.as_deref(), Some("Warning"));
    assert_eq!(series.involved_object.uid.as_deref(), Some(about.uid()));
    assert_eq!(series.source.as_ref().and_then(|source| source.host.as_deref()), Some("n"));
    let written_at = Instant::now();
    recorder.record(note("BackOff", "restarting"));
    recorder.record(note("BackOff", "restarting"));
    until(&store, |events| events.iter().any(|event| event.count == Some(7))).await;
    assert!(written_at.elapsed() >= SERIES_INTERVAL.saturating_sub(GATHER), "{:?}", written_at.elapsed());
    recorder.record(note("BackOff", "restarting"));
    stop.cancel();
    task.await.unwrap();
    assert!(events(&store).iter().any(|event| event.count == Some(8)), "what is left is written at the end");
}

#[tokio::test]
async fn a_series_goes_on_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    for _ in 0..2 {
        let (recorder, writer) = recorder("n");
        recorder.record(note("Failed", "no"));
        drop(recorder);
        writer.run(Arc::clone(&store), CancellationToken::new()).await;
    }
    let counts: Vec<_> = events(&store).iter().map(|event| event.count).collect();
    assert_eq!(counts, [Some(2)]);
}
