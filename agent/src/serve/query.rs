//! Label and field selectors of a list or watch. Pure.

use manifests::Object;
use std::collections::BTreeMap;

/// What a list or watch leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelTerm {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    pointer: String,
    value: String,
    equal: bool,
}

/// A selector that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{0}` is no label selector; try `key=value`, `key!=value`, `key in (a,b)`, `key` or `!key`")]
    Label(String),
    #[error("`{0}` is no field selector; try `metadata.name=web` or `status.phase!=Running`")]
    Field(String),
}

impl Filter {
    /// The filter of a query's `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// If either is none; the term is named.
    pub(crate) fn new(query: &BTreeMap<String, String>) -> Result<Self, FilterError> {
        let given = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        Ok(Self {
            labels: split_terms(given("labelSelector"))
                .into_iter()
                .map(label_term)
                .collect::<Result<_, _>>()?,
            fields: split_terms(given("fieldSelector"))
                .into_iter()
                .map(field_term)
                .collect::<Result<_, _>>()?,
        })
    }

    /// True if `object` passes every term.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let labels = object.metadata().labels.as_ref();
        let get = |key: &str| labels.and_then(|l| l.get(key));
        let labels_pass = self.labels.iter().all(|term| match term {
            LabelTerm::In(key, values) => get(key).is_some_and(|v| values.contains(v)),
            LabelTerm::NotIn(key, values) => get(key).is_none_or(|v| !values.contains(v)),
            LabelTerm::Exists(key) => get(key).is_some(),
            LabelTerm::Missing(key) => get(key).is_none(),
        });
        labels_pass && (self.fields.is_empty() || self.fields_pass(object))
    }

    fn fields_pass(&self, object: &Object) -> bool {
        let Ok(json) = object.to_json() else { return false };
        self.fields.iter().all(|term| {
            let found = json.pointer(&term.pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
            (found == term.value) == term.equal
        })
    }
}

/// Splits at commas outside parentheses.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let terms = selector.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    terms.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn label_term(term: &str) -> Result<LabelTerm, FilterError> {
    let bad = || FilterError::Label(term.to_owned());
    let key = |text: &str| {
        let text = text.trim();
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        plain.then(|| text.to_owned()).ok_or_else(bad)
    };
    if let Some((name, values)) = term.split_once(" notin ") {
        return Ok(LabelTerm::NotIn(key(name)?, set(values).ok_or_else(bad)?));
    }
    if let Some((name, values)) = term.split_once(" in ") {
        return Ok(LabelTerm::In(key(name)?, set(values).ok_or_else(bad)?));
    }
    if let Some((name, value)) = term.split_once("!=") {
        return Ok(LabelTerm::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelTerm::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match term.strip_prefix('!') {
        Some(name) => Ok(LabelTerm::Missing(key(name)?)),
        None => Ok(LabelTerm::Exists(key(term)?)),
    }
}

fn set(values: &str) -> Option<Vec<String>> {
    let inner = values.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

fn field_term(term: &str) -> Result<FieldTerm, FilterError> {
    let (path, value, equal) = term
        .split_once("!=")
        .map(|(path, value)| (path, value, false))
        .or_else(|| {
            term.split_once("==").or_else(|| term.split_once('=')).map(|(path, value)| (path, value, true))
        })
        .ok_or_else(|| FilterError::Field(term.to_owned()))?;
    let pointer = format!("/{}", path.trim().replace('.', "/"));
    Ok(FieldTerm { pointer, value: value.trim().to_owned(), equal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(labels: &str, fields: &str) -> bool {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "web",
            "labels": {"app": "x", "tier": "front"}}, "spec": {"containers": [], "nodeName": "n1"}});
        let pod = Object::from_json(manifests::Kind::Pod, pod).expect("a pod");
        let query = BTreeMap::from([
            ("labelSelector".to_owned(), labels.to_owned()),
            ("fieldSelector".to_owned(), fields.to_owned()),
        ]);
        Filter::new(&query).expect("a selector").matches(&pod)
    }

    #[test]
    fn selectors_choose_as_kubectl_does() {
        let table = [
            ("", "", true),
            ("app=x", "", true),
            ("app==y", "", false),
            ("app!=y,tier", "", true),
            ("app in (x, y),tier notin (back)", "", true),
            ("!tier", "", false),
            ("", "metadata.name=a,spec.nodeName=n1", true),
            ("", "metadata.namespace!=web", false),
        ];
        for (labels, fields, expected) in table {
            assert_eq!(passes(labels, fields), expected, "{labels} {fields}");
        }
    }

    #[test]
    fn a_selector_that_is_none_is_named() {
        let query = BTreeMap::from([("labelSelector".to_owned(), "app in x".to_owned())]);
        assert_eq!(Filter::new(&query), Err(FilterError::Label("app in x".into())));
    }
}
