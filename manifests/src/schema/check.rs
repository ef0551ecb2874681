//! Walks one object's tree along its structure: what does not fit is reported,
//! what fits becomes JSON.

use super::{Definition, Field, Shape, Shapes, Support};
use crate::diagnostic::Severity;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use crate::suggest::did_you_mean;
use crate::yaml::{Content, Entry, NodeId, Place, Scalar};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Checks one object; see [`Checker::check`].
pub(crate) struct Checker<'c, 'a> {
    shapes: &'c Shapes,
    report: &'c mut Report<'a>,
}

/// What is wrong with a value: code, message, help.
type Finding = (&'static str, String, Option<String>);

impl<'c, 'a> Checker<'c, 'a> {
    pub(crate) fn new(shapes: &'c Shapes, report: &'c mut Report<'a>) -> Self {
        Self { shapes, report }
    }

    /// The object as JSON. Values that do not fit are reported and left out (in
    /// lists, replaced by empty ones, so that indices stay); so are nulls, as
    /// the API server does.
    pub(crate) fn check(&mut self, root: NodeId, shape: &Shape) -> Value {
        self.value(root, shape, &Path::ROOT).unwrap_or_else(|| empty(shape))
    }

    fn value(&mut self, id: NodeId, shape: &Shape, path: &Path<'_>) -> Option<Value> {
        let tree = self.report.tree;
        match (&tree.node(id).content, shape) {
            (Content::Mapping(entries), Shape::Object(index)) => {
                let definition = self.shapes.definition(*index);
                Some(self.object(entries, definition, path, id))
            }
            (Content::Mapping(entries), Shape::Map(values)) => Some(self.map(entries, values, path)),
            (Content::Sequence(items), Shape::List(item)) => Some(self.list(items, item, path)),
            (Content::Scalar(scalar), _) => match word(scalar, shape) {
                Ok(value) => Some(value),
                Err(finding) => {
                    let finding =
                        if self.report.hides(&path.to_string()) { hidden(finding, shape) } else { finding };
                    self.refuse(tree.node(id).place, path, finding)
                }
            },
            (_, Shape::Any) => Some(self.anything(id)),
            (content, _) => {
                let place = self.report.locate(path);
                let help = matches!(shape, Shape::List(_)).then(|| "begin each item with `- `".to_owned());
                self.refuse(place, path, wrong_type(shape, &describe(content), help))
            }
        }
    }

    fn refuse<T>(&mut self, place: Place, path: &Path<'_>, finding: Finding) -> Option<T> {
        let field = path.to_string();
        self.report.tell(Severity::Error, place, field.clone(), finding);
        if !self.report.findings.is_full() {
            self.report.replaced.push(field);
        }
        None
    }

    fn object(
        &mut self,
        entries: &[Entry<'_>],
        definition: &Definition,
        path: &Path<'_>,
        id: NodeId,
    ) -> Value {
        let mut out = Map::new();
        let mut misspelt = Vec::new();
        for entry in entries {
            let Some(field) = definition.field(&entry.key) else {
                misspelt.extend(self.unknown_field(entry, definition, path));
                continue;
            };
            if self.report.tree.is_null(entry.value) {
                continue;
            }
            let at = path.field(&field.name);
            self.support(field, entry, &at);
            if let Some(value) = self.value(entry.value, &field.shape, &at) {
                out.insert(field.name.clone(), value);
            }
        }
        for field in definition.fields.iter().filter(|f| f.required) {
            if out.contains_key(&field.name) {
                continue;
            }
            out.insert(field.name.clone(), empty(&field.shape));
            let at = path.field(&field.name).to_string();
            if misspelt.contains(&field.name) || self.report.replaced.contains(&at) {
                self.report.replaced.push(at);
                continue;
            }
            let place =
                if path_is_root(path) { self.report.tree.node(id).place } else { self.report.locate(path) };
            let finding = ("missing-field", format!("field `{}` is missing", field.name), None);
            self.report.tell(Severity::Error, place, at.clone(), finding);
            self.report.replaced.push(at);
        }
        Value::Object(out)
    }

    /// Reports a field that the type does not have; returns what it was to be.
    fn unknown_field(
        &mut self,
        entry: &Entry<'_>,
        definition: &Definition,
        path: &Path<'_>,
    ) -> Option<String> {
        let names = || definition.fields.iter().map(|f| f.name.as_str());
        let near = crate::suggest::nearest(&entry.key, names());
        let help = did_you_mean(&entry.key, names()).or_else(|| {
            let all: Vec<&str> = names().collect();
            (all.len() <= 12).then(|| format!("known here: {}", all.join(", ")))
        });
        let field = path.field(&entry.key).to_string();
        let message = format!("unknown field `{}`", entry.key);
        self.report.tell(Severity::Error, entry.at, field, ("unknown-field", message, help));
        near.map(str::to_owned)
    }

    fn support(&mut self, field: &Field, entry: &Entry<'_>, at: &Path<'_>) {
        match field.support {
            Support::Full => {}
            Support::NoEffect(why) => {
                let finding = ("no-effect-yet", format!("`{}` has no effect: {why}", field.name), None);
                self.report.tell(Severity::Warning, entry.at, at.to_string(), finding);
            }
            Support::Waits(why) => {
                // Kubernetes takes it too, and lets the pod wait for its volume.
                let message = format!("`{}` is not supported yet: the pod waits for it", field.name);
                let finding = ("unsupported-volume", message, Some(why.to_owned()));
                self.report.tell(Severity::Warning, entry.at, at.to_string(), finding);
            }
        }
    }

    fn map(&mut self, entries: &[Entry<'_>], values: &Shape, path: &Path<'_>) -> Value {
        let mut out = Map::new();
        for entry in entries {
            // A null in a map of strings is an empty string to the API server.
            if self.report.tree.is_null(entry.value) {
                if matches!(values, Shape::String | Shape::Bytes) {
                    out.insert(entry.key.clone().into_owned(), Value::String(String::new()));
                }
                continue;
            }
            let at = path.key(&entry.key);
            if let Some(value) = self.value(entry.value, values, &at) {
                out.insert(entry.key.clone().into_owned(), value);
            }
        }
        Value::Object(out)
    }

    fn list(&mut self, items: &[NodeId], item: &Shape, path: &Path<'_>) -> Value {
        let values = items.iter().enumerate().map(|(i, id)| {
            let at = path.index(i);
            self.value(*id, item, &at).unwrap_or_else(|| empty(item))
        });
        Value::Array(values.collect())
    }

    /// A value of no known structure, as it is.
    fn anything(&self, id: NodeId) -> Value {
        let tree = self.report.tree;
        match &tree.node(id).content {
            Content::Scalar(scalar) => untyped(scalar),
            Content::Sequence(items) => items.iter().map(|id| self.anything(*id)).collect(),
            Content::Mapping(entries) => {
                entries.iter().map(|e| (e.key.clone().into_owned(), self.anything(e.value))).collect()
            }
        }
    }
}

fn path_is_root(path: &Path<'_>) -> bool {
    path.segments().is_empty()
}

fn untyped(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::String(text) => Value::String(text.clone().into_owned()),
        Scalar::Boolean(value, _) => Value::Bool(*value),
        Scalar::Integer(value, _) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(n), _) => n.into(),
            (_, Ok(n)) => n.into(),
            _ => Value::String(value.to_string()),
        },
        Scalar::Float(value, _) => (*value).into(),
    }
}

/// What stands for a value that did not fit.
fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::Any => Value::Null,
        Shape::String | Shape::Bytes | Shape::Time | Shape::Quantity | Shape::IntOrString => {
            Value::String(String::new())
        }
        Shape::Boolean => Value::Bool(false),
        Shape::Integer(..) | Shape::Number => 0.into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object(_) => Value::Object(Map::new()),
    }
}

/// The JSON of a single word, if it fits.
fn word(scalar: &Scalar<'_>, shape: &Shape) -> Result<Value, Finding> {
    match (shape, scalar) {
        (Shape::Any, _) => Ok(untyped(scalar)),
        (Shape::String, Scalar::String(text)) => Ok(Value::String(text.clone().into_owned())),
        (Shape::Bytes, Scalar::String(text)) => bytes(text),
        (Shape::Time, Scalar::String(text)) => time(text),
        (Shape::Boolean, Scalar::Boolean(value, _)) => Ok(Value::Bool(*value)),
        (Shape::Integer(low, high), Scalar::Integer(value, _)) => integer(*value, *low, *high),
        (Shape::Integer(low, high), Scalar::Float(value, _))
            if value.fract() == 0.0 && value.abs() < 1e15 =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "whole and small")]
            let value = *value as i64;
            integer(value.into(), *low, *high)
        }
        (Shape::Number, Scalar::Integer(..) | Scalar::Float(..)) => Ok(untyped(scalar)),
        (Shape::IntOrString, Scalar::Integer(value, _)) => integer(*value, i32::MIN.into(), i32::MAX.into()),
        (Shape::IntOrString, Scalar::String(text)) => Ok(Value::String(text.clone().into_owned())),
        (Shape::Quantity, Scalar::String(text)) => quantity(text),
        (Shape::Quantity, Scalar::Integer(value, _)) => quantity(&value.to_string()),
        (Shape::Quantity, Scalar::Float(_, text)) => quantity(&text.replace('_', "")),
        (_, scalar) => Err(wrong_type(shape, &describe_word(scalar), help_for(shape, scalar))),
    }
}

fn integer(value: i128, low: i128, high: i128) -> Result<Value, Finding> {
    if value < low || value > high {
        return Err(("out-of-range", format!("{value} is not between {low} and {high}"), None));
    }
    Ok(untyped(&Scalar::Integer(value, "".into())))
}

fn quantity(text: &str) -> Result<Value, Finding> {
    match Quantity::parse(text) {
        Ok(_) => Ok(Value::String(text.to_owned())),
        Err(error) => Err(("bad-quantity", error.to_string(), Some(error.help()))),
    }
}

fn bytes(text: &str) -> Result<Value, Finding> {
    let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    match STANDARD.decode(&text) {
        Ok(_) => Ok(Value::String(text)),
        Err(error) => {
            let help = "encode it with `base64`, or use `stringData` for plain text in a Secret";
            Err(("bad-base64", format!("this is not base64: {error}"), Some(help.to_owned())))
        }
    }
}

fn time(text: &str) -> Result<Value, Finding> {
    match text.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(Value::String(text.to_owned())),
        Err(_) => {
            let help = Some("write it like `2026-01-31T12:00:00Z`".to_owned());
            Err(("bad-time", "this is not a time of RFC 3339".to_owned(), help))
        }
    }
}

fn wrong_type(shape: &Shape, found: &str, help: Option<String>) -> Finding {
    let wanted = match shape {
        Shape::Any => "a value",
        Shape::String => "a string",
        Shape::Bytes => "base64 text",
        Shape::Time => "a time",
        Shape::Boolean => "true or false",
        Shape::Integer(..) => "an integer",
        Shape::Number => "a number",
        Shape::IntOrString => "an integer or a string",
        Shape::Quantity => "a quantity",
        Shape::List(_) => "a list",
        Shape::Map(_) | Shape::Object(_) => "a mapping",
    };
    ("wrong-type", format!("expected {wanted}, found {found}"), help)
}

/// The finding without the value that it is about.
fn hidden((code, message, help): Finding, shape: &Shape) -> Finding {
    match code {
        "wrong-type" => wrong_type(shape, "something else", Some("is it to be quoted?".to_owned())),
        _ => (code, message, help),
    }
}

fn describe(content: &Content<'_>) -> String {
    match content {
        Content::Scalar(scalar) => describe_word(scalar),
        Content::Sequence(_) => "a list".to_owned(),
        Content::Mapping(_) => "a mapping".to_owned(),
    }
}

fn describe_word(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => "nothing".to_owned(),
        Scalar::String(_) => "a string".to_owned(),
        Scalar::Boolean(value, _) => format!("the boolean {value}"),
        Scalar::Integer(value, _) => format!("the integer {value}"),
        Scalar::Float(_, text) => format!("the number {text}"),
    }
}

fn help_for(shape: &Shape, scalar: &Scalar<'_>) -> Option<String> {
    match (shape, scalar) {
        (
            Shape::String | Shape::Bytes | Shape::IntOrString | Shape::Time,
            Scalar::Boolean(..) | Scalar::Integer(..) | Scalar::Float(..),
        ) => Some(format!("quote it: \"{}\"", scalar.text())),
        (Shape::Integer(..) | Shape::Number, Scalar::String(text)) if text.parse::<f64>().is_ok() => {
            Some("remove the quotes".to_owned())
        }
        (Shape::Boolean, Scalar::String(text)) => {
            let unquoted = matches!(Scalar::plain(text.clone()), Scalar::Boolean(..));
            if unquoted {
                Some("remove the quotes".to_owned())
            } else {
                did_you_mean(text, ["true", "false"])
            }
        }
        (Shape::List(_), _) => Some("begin each item with `- `".to_owned()),
        (Shape::Map(_) | Shape::Object(_), Scalar::String(text)) if text.contains(':') => {
            Some("put a space after the `:`".to_owned())
        }
        _ => None,
    }
}
