//! What is wrong with a text, where, and how it could be put right.

mod render;

pub use render::render;
use serde::Serialize;

/// Whether it stops a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The revision is refused.
    Error,
    /// Worth to know; refuses nothing.
    Warning,
}

/// One thing that is wrong, or worth to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether it stops a revision.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// `spec.template.spec.containers[0].image`; empty if it concerns no field.
    pub field: String,
    /// A word that stays the same while messages change: `unknown-field`.
    pub code: &'static str,
    /// For a person, without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// How many characters it concerns.
    pub length: u32,
    /// The line of the file; none if it could show a secret or is no text.
    #[serde(skip)]
    pub source_line: Option<String>,
}

impl Diagnostic {
    /// True if it stops a revision.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
