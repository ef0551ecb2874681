//! From the files of one revision to typed, defaulted, checked objects, or to
//! everything that is wrong with them.

use crate::defaults;
use crate::diagnostic::{Diagnostic, Severity};
use crate::gvk::{Verdict, judge};
use crate::habits::Orders;
use crate::kind::Kind;
use crate::object::{Object, ObjectKey};
use crate::path::Path;
use crate::report::{Findings, Report};
use crate::rules;
use crate::schema::{Checker, for_objects};
use crate::source::{Source, Unreadable};
use crate::yaml::{Content, NodeId, Place, SyntaxError, Tree, compose};
use serde_json::Value;
use std::collections::HashMap;

/// A file as it came.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As the user knows it: relative to the repository, or to where `keel` runs.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// An object that is complete: every default set, every rule kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedObject {
    /// The object.
    pub object: Object,
    /// Its file.
    pub path: String,
    /// The line where it starts, from 1.
    pub line: u32,
}

/// What the files of one revision hold.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The objects without an error, in the order of the files.
    pub objects: Vec<ParsedObject>,
    /// What is wrong or worth to know, in the order of the files and places.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// True if the revision must be refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads all files of one revision. Nothing a file holds makes it fail or take
/// more than memory in proportion to the files' size.
#[must_use]
pub fn parse(files: Vec<SourceFile>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen = HashMap::new();
    let mut orders = Orders::default();
    for file in &files {
        let (findings, orders) = (Findings::default(), &mut orders);
        let mut reading = Reading { parsed: &mut parsed, seen: &mut seen, orders, findings };
        match Source::new(file) {
            Ok(source) => reading.file(&source),
            Err(unreadable) => reading.findings.push(unreadable.diagnostic(&file.path)),
        }
        let mut findings = reading.findings;
        findings.finish(&file.path);
        parsed.diagnostics.append(&mut findings.list);
    }
    parsed.diagnostics.append(&mut orders.diagnostics(&seen.into_keys().collect()));
    parsed
}

impl Unreadable {
    pub(crate) fn diagnostic(self, path: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            path: path.to_owned(),
            line: self.line,
            column: self.column,
            field: String::new(),
            code: self.code,
            message: self.message,
            help: None,
            length: 1,
            source_line: None,
        }
    }
}

impl Findings {
    /// Puts the findings in the order of the file, and says if some were left out.
    pub(crate) fn finish(&mut self, path: &str) {
        self.list.sort_by_key(|d| (d.line, d.column));
        if self.left_out > 0 {
            let message = format!("{} more problems are not shown", self.left_out);
            let more = Unreadable { code: "too-many-problems", message, line: 0, column: 0 };
            self.list.push(more.diagnostic(path));
        }
    }

    /// Notes that part of the text is not YAML.
    pub(crate) fn syntax(&mut self, source: &Source<'_>, error: SyntaxError) {
        self.push(Diagnostic {
            severity: Severity::Error,
            path: source.path.to_owned(),
            line: error.place.line,
            column: error.place.column,
            field: String::new(),
            code: error.code,
            message: error.message,
            help: error.help,
            length: error.place.length,
            source_line: source.shown_line(error.place.line),
        });
    }
}

/// Where an object was first seen.
struct First {
    path: String,
    line: u32,
}

/// The reading of one file.
struct Reading<'p> {
    parsed: &'p mut Parsed,
    seen: &'p mut HashMap<ObjectKey, First>,
    orders: &'p mut Orders,
    findings: Findings,
}

impl Reading<'_> {
    fn file(&mut self, source: &Source<'_>) {
        let composed = compose(source.text);
        for error in composed.errors {
            self.findings.syntax(source, error);
        }
        for root in composed.documents {
            self.document(source, &composed.tree, root, String::new());
        }
    }

    fn document(&mut self, source: &Source<'_>, tree: &Tree<'_>, root: NodeId, prefix: String) {
        let Content::Mapping(entries) = &tree.node(root).content else {
            let mut report = Report { prefix, ..Report::new(source, tree, root, &mut self.findings) };
            let message = "a document must be a mapping with `apiVersion` and `kind`";
            report.error(&Path::ROOT, "not-an-object", message);
            return;
        };
        if entries.is_empty() {
            return;
        }
        let mut report = Report { prefix, ..Report::new(source, tree, root, &mut self.findings) };
        match identify(&mut report) {
            Some(Verdict::Known(kind)) => {
                if let Some((object, at)) = read(kind, &mut report) {
                    self.orders.add(&object, &report);
                    self.add(object, source, tree.node(root).place, at);
                }
            }
            Some(Verdict::List) => self.list(source, tree, root),
            Some(Verdict::Refused { .. }) | None => {}
        }
    }

    fn list(&mut self, source: &Source<'_>, tree: &Tree<'_>, root: NodeId) {
        let mut report = Report::new(source, tree, root, &mut self.findings);
        for entry in tree.entries(root) {
            if !matches!(&*entry.key, "apiVersion" | "kind" | "metadata" | "items") {
                let finding = ("unknown-field", format!("unknown field `{}`", entry.key), None);
                report.tell(Severity::Error, entry.at, entry.key.clone().into_owned(), finding);
            }
        }
        let Some(items) = tree.entry(root, "items").map(|e| e.value) else {
            return report.error(&Path::ROOT, "missing-field", "field `items` is missing");
        };
        match &tree.node(items).content {
            Content::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.document(source, tree, *item, format!("items[{index}]"));
                }
            }
            _ if tree.is_null(items) => {}
            Content::Scalar(_) | Content::Mapping(_) => {
                report.error(&Path::ROOT.field("items"), "wrong-type", "expected a list");
            }
        }
    }

    fn add(&mut self, object: Object, source: &Source<'_>, start: Place, at: Place) {
        let key = object.key();
        if let Some(first) = self.seen.get(&key) {
            self.findings.push(Diagnostic {
                severity: Severity::Error,
                path: source.path.to_owned(),
                line: at.line,
                column: at.column,
                field: "metadata.name".to_owned(),
                code: "duplicate-object",
                message: format!("{key} is here a second time"),
                help: Some(format!("it is first at {}:{}", first.path, first.line)),
                length: at.length,
                source_line: source.excerpt(at.line),
            });
            return;
        }
        self.seen.insert(key, First { path: source.path.to_owned(), line: at.line });
        self.parsed.objects.push(ParsedObject { object, path: source.path.to_owned(), line: start.line });
    }
}

/// What the document says it is; what is wrong with that is reported.
fn identify(report: &mut Report<'_>) -> Option<Verdict> {
    let mut words = [None, None];
    for (word, field) in words.iter_mut().zip(["apiVersion", "kind"]) {
        *word = report.tree.string(report.root, field);
        match (&word, report.tree.entry(report.root, field)) {
            (Some(_), _) => {}
            (None, Some(entry)) if !report.tree.is_null(entry.value) => {
                report.error(&Path::ROOT.field(field), "wrong-type", "expected a string");
            }
            (None, _) => missing_word(report, field),
        }
    }
    let [Some(api_version), Some(kind)] = words else { return None };
    let verdict = judge(api_version, kind);
    if let Verdict::Refused { code, field, message, help } = &verdict {
        report.error_with(&Path::ROOT.field(field), code, message.clone(), help.clone());
    }
    Some(verdict)
}

fn missing_word(report: &mut Report<'_>, field: &'static str) {
    let entries = report.tree.entries(report.root);
    let keys = || entries.iter().map(|e| &*e.key).filter(|key| *key != field);
    let near = crate::suggest::nearest(field, keys());
    let help = match near {
        Some(near) => Some(format!("is `{near}` meant to be `{field}`?")),
        None if field == "kind" && keys().any(|k| k == "resources") => {
            Some("this looks like a kustomization; kustomizations are not rendered yet".to_owned())
        }
        None => None,
    };
    report.error_with(&Path::ROOT, "missing-field", format!("field `{field}` is missing"), help);
}

/// Reads, completes and checks one object. With it comes the place of its name.
fn read(kind: Kind, report: &mut Report<'_>) -> Option<(Object, Place)> {
    report.secret = kind == Kind::Secret;
    let shapes = for_objects();
    let root = report.root;
    let mut value = Checker::new(shapes, report).check(root, shapes.root(kind));
    if let Value::Object(fields) = &mut value {
        // The API server ignores the status of what is created.
        if fields.remove("status").is_some_and(|s| s.as_object().is_none_or(|s| !s.is_empty())) {
            report.warn(
                &Path::ROOT.field("status"),
                "no-effect-yet",
                "`status` has no effect: it is Evenkeel that sets it",
            );
        }
    }
    let mut object = match Object::from_json(kind, value) {
        Ok(object) => object,
        Err(error) => {
            // The structure was checked, so only what was replaced can be in the way.
            if !report.failed {
                report.error(&Path::ROOT, "wrong-type", error.to_string());
            }
            return None;
        }
    };
    defaults::clear_server_fields(&mut object);
    defaults::apply(&mut object);
    rules::check(&object, report);
    if report.failed {
        return None;
    }
    Some((object, report.locate(&Path::ROOT.field("metadata.name"))))
}
