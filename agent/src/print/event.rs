//! The rows of Events: as `kubectl get events` has them, and as `kubectl events` has.

use super::age::{human_duration, seconds_between};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

pub(super) const HEADS: &[&str] = &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
pub(super) const WIDE_HEADS: &[&str] = &[
    "LAST SEEN",
    "TYPE",
    "REASON",
    "OBJECT",
    "SUBOBJECT",
    "SOURCE",
    "MESSAGE",
    "FIRST SEEN",
    "COUNT",
    "NAME",
];

/// When `event` was last seen.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let last = event.last_timestamp.as_ref().map(|at| at.0);
    series.or(last).or_else(|| event.event_time.as_ref().map(|at| at.0)).or_else(|| first_seen(event))
}

fn first_seen(event: &Event) -> Option<Timestamp> {
    let first = event.first_timestamp.as_ref().map(|at| at.0);
    first
        .or_else(|| event.event_time.as_ref().map(|at| at.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|at| at.0))
}

fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "<unknown>".into(), |at| human_duration(seconds_between(at, now)))
}

fn count(event: &Event) -> i32 {
    let series = event.series.as_ref().and_then(|series| series.count);
    series.or(event.count).unwrap_or(1).max(1)
}

/// `pod/web`.
pub(crate) fn about(event: &Event) -> String {
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or_default().to_ascii_lowercase();
    match object.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        Some(_) | None => kind,
    }
}

/// Kubectl writes messages as they are; lines after the first would break the table.
fn one_line(message: Option<&str>) -> String {
    message.unwrap_or_default().trim().replace('\n', "\\n")
}

pub(super) fn row(event: &Event, now: Timestamp) -> Vec<String> {
    vec![
        age(last_seen(event), now),
        event.type_.clone().unwrap_or_default(),
        event.reason.clone().unwrap_or_default(),
        about(event),
        one_line(event.message.as_deref()),
    ]
}

pub(super) fn wide_row(event: &Event, now: Timestamp) -> Vec<String> {
    let source = event.source.clone().unwrap_or_default();
    let source: Vec<_> = source.component.into_iter().chain(source.host).collect();
    let source = if source.is_empty() {
        event.reporting_component.clone().unwrap_or_default()
    } else {
        source.join(", ")
    };
    vec![
        age(last_seen(event), now),
        event.type_.clone().unwrap_or_default(),
        event.reason.clone().unwrap_or_default(),
        about(event),
        event.involved_object.field_path.clone().unwrap_or_default(),
        source,
        one_line(event.message.as_deref()),
        age(first_seen(event), now),
        count(event).to_string(),
        event.metadata.name.clone().unwrap_or_default(),
    ]
}

/// The heads of `keel events`, which counts repetitions.
pub(crate) fn seen_columns(with_namespace: bool) -> Vec<&'static str> {
    let mut heads = if with_namespace { vec!["NAMESPACE"] } else { Vec::new() };
    heads.extend(HEADS);
    heads
}

/// The row of `event` under [`seen_columns`]: `5m (x4 over 10m)`, `Pod/web`.
pub(crate) fn seen_row(event: &Event, with_namespace: bool, now: Timestamp) -> Vec<String> {
    let mut cells = row(event, now);
    let count = count(event);
    if count > 1 {
        cells[0] = format!("{} (x{count} over {})", cells[0], age(first_seen(event), now));
    }
    let object = &event.involved_object;
    cells[3] = format!(
        "{}/{}",
        object.kind.as_deref().unwrap_or_default(),
        object.name.as_deref().unwrap_or_default()
    );
    if with_namespace {
        cells.insert(0, event.metadata.namespace.clone().unwrap_or_default());
    }
    cells
}
