//! Collects what is wrong with one object, and leads each field path back to its place.

use crate::diagnostic::{Diagnostic, Severity};
use crate::names::Wrong;
use crate::path::{Path, Segment};
use crate::source::Source;
use crate::yaml::{Content, NodeId, Place, Tree};

/// The most diagnostics for one file; what is wrong beyond them comes up when these are mended.
pub(crate) const MAX_DIAGNOSTICS: usize = 200;

/// What was found in one file so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Diagnostic>,
    pub(crate) left_out: usize,
}

impl Findings {
    /// True if whatever else is found is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < MAX_DIAGNOSTICS { self.list.push(diagnostic) } else { self.left_out += 1 }
    }
}

/// The report on one object of a file.
pub(crate) struct Report<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) tree: &'a Tree<'a>,
    /// The object's own node.
    pub(crate) root: NodeId,
    /// What leads to it: `items[3]` in a List, else nothing.
    pub(crate) prefix: String,
    /// True for a Secret, whose data no message shows.
    pub(crate) secret: bool,
    /// True once something in this object is an error.
    pub(crate) failed: bool,
    /// Fields that the structure check replaced: nothing that follows from them is told.
    pub(crate) replaced: Vec<String>,
    pub(crate) findings: &'a mut Findings,
}

impl<'a> Report<'a> {
    /// An empty report on the document at `root`.
    pub(crate) fn new(
        source: &'a Source<'a>,
        tree: &'a Tree<'a>,
        root: NodeId,
        findings: &'a mut Findings,
    ) -> Self {
        let (prefix, replaced) = (String::new(), Vec::new());
        Self { source, tree, root, prefix, secret: false, failed: false, replaced, findings }
    }

    /// An error at `path` if `check` finds one in `name`.
    pub(crate) fn name(&mut self, path: &Path<'_>, name: &str, check: fn(&str) -> Result<(), Wrong>) {
        if let Err((rule, help)) = check(name) {
            self.error_with(path, "bad-name", format!("`{name}` {rule}"), help);
        }
    }

    /// An error at `path`, as the rules find it: on the typed object.
    pub(crate) fn error(&mut self, path: &Path<'_>, code: &'static str, message: impl Into<String>) {
        self.error_with(path, code, message, None);
    }

    /// Like [`Self::error`], with what to do about it.
    pub(crate) fn error_with(
        &mut self,
        path: &Path<'_>,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        if self.findings.is_full() {
            self.failed = true;
            self.findings.left_out += 1;
            return;
        }
        let field = path.to_string();
        if self.replaced.iter().any(|r| within(r, &field) || within(&field, r)) {
            self.failed = true;
            return;
        }
        let place = self.locate(path);
        self.tell(Severity::Error, place, field, (code, message.into(), help));
    }

    /// A warning at `path`.
    pub(crate) fn warn(&mut self, path: &Path<'_>, code: &'static str, message: impl Into<String>) {
        let place = self.locate(path);
        self.tell(Severity::Warning, place, path.to_string(), (code, message.into(), None));
    }

    /// A warning with what to do about it.
    pub(crate) fn warn_with(
        &mut self,
        path: &Path<'_>,
        code: &'static str,
        message: &str,
        help: Option<String>,
    ) {
        let place = self.locate(path);
        self.tell(Severity::Warning, place, path.to_string(), (code, message.to_owned(), help));
    }

    /// The keys that the user wrote in the mapping at `path`.
    pub(crate) fn keys(&self, path: &Path<'_>) -> Vec<String> {
        let (_, written, at) = self.walk(path);
        if !written {
            return Vec::new();
        }
        self.tree.entries(at).iter().map(|e| e.key.clone().into_owned()).collect()
    }

    /// An error at the key that `path` ends with, if `check` finds one in that key.
    pub(crate) fn key(&mut self, path: &Path<'_>, check: fn(&str) -> Result<(), Wrong>) {
        let Some(Segment::Key(key)) = path.segments().pop() else { return };
        if let Err((rule, help)) = check(key) {
            let field = path.to_string();
            let place =
                if self.findings.is_full() { self.tree.node(self.root).place } else { self.locate_key(path) };
            self.tell(Severity::Error, place, field, ("bad-name", format!("`{key}` {rule}"), help));
        }
    }

    /// True if the value at `path` is a secret, which no message may show.
    pub(crate) fn hides(&self, field: &str) -> bool {
        self.secret && (field.starts_with("data") || field.starts_with("stringData"))
    }

    /// The word that the user wrote at `path`.
    pub(crate) fn text(&self, path: &Path<'_>) -> Option<&str> {
        match (self.walk(path), &self.tree.node(self.walk(path).2).content) {
            ((_, true, _), Content::Scalar(scalar)) => Some(scalar.text()),
            _ => None,
        }
    }

    /// A finding at a known place: code, message, help.
    pub(crate) fn tell(
        &mut self,
        severity: Severity,
        place: Place,
        field: String,
        (code, message, help): (&'static str, String, Option<String>),
    ) {
        self.failed |= severity == Severity::Error;
        if self.findings.is_full() {
            self.findings.left_out += 1;
            return;
        }
        let hidden = self.hides(&field);
        let field = match (self.prefix.is_empty(), field.is_empty()) {
            (true, _) => field,
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}.{field}", self.prefix),
        };
        let source_line = if hidden { None } else { self.source.excerpt(place.line) };
        self.findings.push(Diagnostic {
            severity,
            path: self.source.path.to_owned(),
            line: place.line,
            column: place.column,
            field,
            code,
            message,
            help,
            length: place.length,
            source_line,
        });
    }

    /// An error at `path` that is not told yet: it has no message, and more has to be known.
    pub(crate) fn diagnostic(&self, path: &Path<'_>) -> Diagnostic {
        let place = self.locate(path);
        let dot = if self.prefix.is_empty() { "" } else { "." };
        Diagnostic {
            severity: Severity::Error,
            path: self.source.path.to_owned(),
            line: place.line,
            column: place.column,
            field: format!("{}{dot}{path}", self.prefix),
            code: "",
            message: String::new(),
            help: None,
            length: place.length,
            source_line: self.source.excerpt(place.line),
        }
    }

    /// True if the user wrote the field, be it as null.
    pub(crate) fn is_written(&self, path: &Path<'_>) -> bool {
        self.walk(path).1
    }

    /// The place of a field: of its value if that is a word, else of its key; of
    /// the nearest field around it if the user did not write it.
    pub(crate) fn locate(&self, path: &Path<'_>) -> Place {
        self.walk(path).0
    }

    /// The place of the key that `path` ends with.
    fn locate_key(&self, path: &Path<'_>) -> Place {
        let (place, written, _) = self.walk(path);
        let parent = path.parent().map(|p| self.walk(p).2);
        match (path.segments().pop(), parent) {
            (Some(Segment::Key(key)), Some(parent)) if written => {
                self.tree.entry(parent, key).map_or(place, |e| e.at)
            }
            _ => place,
        }
    }

    /// Place, whether the whole path was written, and the last node on it.
    fn walk(&self, path: &Path<'_>) -> (Place, bool, NodeId) {
        let mut at = self.root;
        let mut place = self.tree.node(at).place;
        for segment in path.segments() {
            match segment {
                Segment::Root => {}
                Segment::Field(name) | Segment::Key(name) => {
                    let Some(entry) = self.tree.entry(at, name) else { return (place, false, at) };
                    at = entry.value;
                    place = match self.tree.node(at).content {
                        Content::Scalar(_) => self.tree.node(at).place,
                        Content::Sequence(_) | Content::Mapping(_) => entry.at,
                    };
                }
                Segment::Index(index) => {
                    let Some(item) = self.tree.item(at, index) else { return (place, false, at) };
                    at = item;
                    place = self.tree.node(at).place;
                }
            }
        }
        (place, true, at)
    }
}

/// True if `inner` is `outer` or lies in it.
fn within(outer: &str, inner: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']) || outer.is_empty())
}
