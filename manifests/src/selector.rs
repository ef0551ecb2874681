//! Label selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// True if `labels` satisfy every requirement of `selector`. The empty selector
/// matches everything; an operator that is none of Kubernetes' matches nothing.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|l| l.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal && selector.match_expressions.iter().flatten().all(|e| holds(e, value(&e.key)))
}

/// True if every label of `wanted` is among `labels`, as the selector of a Service or a
/// ReplicationController means it.
#[must_use]
pub fn labels_match(wanted: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// True if nothing is required, so that everything matches.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

fn holds(requirement: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let listed = || value.is_some_and(|v| requirement.values.as_ref().is_some_and(|vs| vs.contains(v)));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector(value: serde_json::Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn requirements_are_anded() {
        let labels =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        let matched = |value| matches(&selector(value), Some(&labels));
        let expression = |key, operator, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        assert!(matched(json!({})));
        assert!(matched(json!({ "matchLabels": { "app": "web" } })));
        assert!(!matched(json!({ "matchLabels": { "app": "web", "tier": "back" } })));
        assert!(matched(expression("tier", "In", &["front", "back"])));
        assert!(!matched(expression("tier", "NotIn", &["front"])));
        assert!(matched(expression("zone", "NotIn", &["front"])));
        assert!(matched(expression("app", "Exists", &[])));
        assert!(matched(expression("zone", "DoesNotExist", &[])));
        assert!(!matched(expression("app", "exists", &[])));
        assert!(matches(&selector(json!({})), None));
        assert!(!matches(&selector(json!({ "matchLabels": { "app": "web" } })), None));
    }
}
