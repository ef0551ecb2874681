//! What a trace came to, as it is told.

use serde::{Deserialize, Serialize};

/// What becomes of a packet at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// It goes on.
    Passes,
    /// Its sender is told that nobody answers.
    Refused,
    /// Nothing more is heard of it.
    Dropped,
    /// It cannot be seen from here.
    Unknown,
}

/// A place that a packet comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// In one word.
    pub(crate) place: String,
    pub(crate) outcome: Outcome,
    /// Why, for people.
    pub(crate) text: String,
}

impl Step {
    pub(crate) fn new(place: &str, outcome: Outcome, text: impl Into<String>) -> Self {
        Self { place: place.into(), outcome, text: text.into() }
    }
}

/// One of the ways that a packet can take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Path {
    /// Address and port.
    pub(crate) to: String,
    /// Who has the address, as far as it is known.
    pub(crate) whose: String,
    pub(crate) steps: Vec<Step>,
}

/// Where packets from a pod go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// Before the ways part.
    pub(crate) steps: Vec<Step>,
    /// Each as likely as the others.
    pub(crate) paths: Vec<Path>,
}

impl Path {
    /// It is not known to end on the way.
    pub(crate) fn arrives(&self) -> bool {
        all_pass(&self.steps)
    }
}

impl Trace {
    /// Every packet arrives, as far as it is known.
    pub(crate) fn arrives(&self) -> bool {
        all_pass(&self.steps) && !self.paths.is_empty() && self.paths.iter().all(Path::arrives)
    }
}

fn all_pass(steps: &[Step]) -> bool {
    steps.iter().all(|step| matches!(step.outcome, Outcome::Passes | Outcome::Unknown))
}
