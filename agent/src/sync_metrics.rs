//! Counts the looks at Git, and tells the commit in force.

use crate::metrics::Metrics;
use manifests::revision::Revision;
use manifests::{Kind, ObjectKey};
use reconciler::store::Store;
use reconciler::sync::{SyncHandle, SyncReport};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Every result that a look can have; the metric of each but the newest is 0.
const RESULTS: [&str; 5] = ["Synced", "Invalid", "FetchFailed", "HistoryRewritten", "Emptied"];

/// Follows the reports of `sync` until `stop`.
///
/// # Errors
/// Never; the type is that of every part of the agent.
pub(crate) async fn run(
    store: Arc<Store>,
    sync: SyncHandle,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut reports = sync.subscribe();
    let mut shown: HashMap<String, [String; 4]> = HashMap::new();
    loop {
        let report = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            report = reports.recv() => report,
        };
        match report {
            Ok(report) => count(&store, &metrics, &report, &mut shown),
            // Some reports were missed; the next one says what holds now.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => {
                stop.cancelled().await;
                return Ok(());
            }
        }
    }
}

fn count(store: &Store, metrics: &Metrics, report: &SyncReport, shown: &mut HashMap<String, [String; 4]>) {
    let source = report.source.as_str();
    for result in RESULTS {
        let value = f64::from(u8::from(result == report.result));
        metrics.sync_result.with_label_values(&[source, result]).set(value);
    }
    let now = jiff::Timestamp::now();
    metrics.sync_time.with_label_values(&[source]).set(now.as_duration().as_secs_f64());
    let seconds = std::time::Duration::from_millis(report.duration_millis).as_secs_f64();
    metrics.sync_seconds.with_label_values(&[source]).observe(seconds);
    let object = store.get(&ObjectKey::new(Kind::Revision, "", source));
    let Some(revision) = object.as_deref().and_then(|object| <&Revision>::try_from(object).ok()) else {
        return;
    };
    let spec = &revision.spec;
    let labels = [source.to_owned(), spec.url.clone(), spec.reference.clone(), spec.commit.clone()];
    if let Some(old) = shown.insert(source.to_owned(), labels.clone())
        && old != labels
    {
        // Fails only if it was never there.
        let _removed = metrics.revision_info.remove_label_values(&old.each_ref().map(String::as_str));
    }
    metrics.revision_info.with_label_values(&labels.each_ref().map(String::as_str)).set(1.0);
}
