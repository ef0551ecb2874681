//! Objects and the node in the manner of `systemctl status`.

mod node;
mod pod;
mod sheet;
mod tree;
mod workload;

pub(crate) use node::node;
pub(crate) use pod::{LogLine, PodReport, pod};
pub(crate) use tree::Branch;
pub(crate) use workload::{WorkloadReport, branch, workload};

use super::{Colour, Paint, ago, bytes, event_about, last_seen, short_commit};
use crate::client::PullStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use sheet::Sheet;

/// How an object is, in a word and its colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Good, on its way, or bad; dim if it is over.
    pub(crate) colour: Colour,
    /// `active (running)`.
    pub(crate) text: String,
    /// Since when.
    pub(crate) since: Option<Timestamp>,
}

impl Activity {
    /// systemctl's dot: full while it lives, hollow when it is over, a cross when it failed.
    pub(crate) fn dot(&self, paint: Paint) -> String {
        paint.paint(self.colour, symbol(self.colour))
    }

    fn line(&self, paint: Paint, now: Timestamp) -> String {
        let text = paint.paint(self.colour, &self.text);
        match self.since {
            Some(since) => format!("{text} since {}", ago(since, now)),
            None => text,
        }
    }
}

/// systemctl's dot in words of colour.
const fn symbol(colour: Colour) -> &'static str {
    match colour {
        Colour::Good | Colour::Notice | Colour::Bold => "●",
        Colour::Bad => "×",
        Colour::Dim => "○",
    }
}

/// Where an object came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// The source's name.
    pub(crate) source: String,
    /// Its URL, if the source still is.
    pub(crate) url: String,
    /// `apps/web.yaml:12`.
    pub(crate) origin: String,
    /// The commit that last changed the manifest.
    pub(crate) commit: String,
    /// Its author.
    pub(crate) author: String,
    /// First line of its message, if it still is the newest.
    pub(crate) subject: Option<String>,
    /// When it was made, if it still is the newest.
    pub(crate) committed_at: Option<Timestamp>,
    /// From the object that Git holds down to this one's owner: `Deployment/web`.
    pub(crate) owners: Vec<String>,
}

impl Provenance {
    /// The lines `Loaded`, `Commit` and `Author`, and `Owner` if there is one.
    fn write(&self, sheet: &mut Sheet, now: Timestamp) {
        if self.source.is_empty() {
            sheet.field("Loaded", "not from Git");
        } else {
            let url = if self.url.is_empty() { String::new() } else { format!(" <{}>", self.url) };
            sheet.field("Loaded", &format!("{} from source {}{url}", self.origin, self.source));
            let subject = self.subject.as_ref().map(|subject| format!(" {subject:?}")).unwrap_or_default();
            sheet.field("Commit", &format!("{}{subject}", short_commit(&self.commit)));
            let at = self.committed_at.map(|at| format!(", {}", ago(at, now))).unwrap_or_default();
            sheet.field("Author", &format!("{}{at}", self.author));
        }
        if !self.owners.is_empty() {
            sheet.field("Owner", &self.owners.join(" → "));
        }
    }
}

/// The newest events, a line each; empty if there is none.
fn events(events: &[Event], paint: Paint, now: Timestamp) -> String {
    const SHOWN: usize = 10;
    let mut events: Vec<_> = events.iter().collect();
    events.sort_by_key(|event| last_seen(event));
    let mut text = String::new();
    for event in events.iter().skip(events.len().saturating_sub(SHOWN)) {
        let mut cells = super::seen_row(event, false, now);
        cells[3] = event_about(event);
        let colour = if cells[1] == "Warning" { Colour::Notice } else { Colour::Dim };
        text.push_str(&format!(
            "{:>6} ago  {} {}: {}\n",
            cells[0],
            paint.paint(colour, &cells[2]),
            cells[3],
            cells[4]
        ));
    }
    text
}

/// `nginx:1.27 42% (8.4M of 20.0M)`.
fn pull(pull: &PullStatus) -> String {
    let PullStatus { reference, done, total } = pull;
    if *total == 0 {
        return reference.clone();
    }
    let percent = u128::from(*done) * 100 / u128::from(*total);
    format!("{reference} {percent}% ({} of {})", bytes(*done), bytes(*total))
}

#[cfg(test)]
mod tests;
