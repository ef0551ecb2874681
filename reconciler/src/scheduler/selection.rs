//! Which nodes a Pod chooses by name, labels and affinity.

use manifests::k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
};

/// True if the Pod's node selector and required node affinity choose `node`.
pub(crate) fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let required =
        affinity(spec).and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// The sum of the weights of the preferences that `node` meets.
pub(super) fn preference(spec: &PodSpec, node: &Node) -> i64 {
    let preferred =
        affinity(spec).and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred.into_iter().flatten().filter(|term| {
        // Unlike among required terms, one without requirements is met everywhere.
        is_empty(&term.preference) || matches(&term.preference, node)
    });
    met.map(|term| i64::from(term.weight)).sum()
}

/// True if the Pod prefers some nodes to others.
pub(super) fn has_preference(spec: &PodSpec) -> bool {
    let preferred =
        affinity(spec).and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred.is_some_and(|preferred| !preferred.is_empty())
}

/// The only node that the Pod may run on by its affinity to a node's name, as a daemon's.
pub(crate) fn only_node(spec: &PodSpec) -> Option<&str> {
    let required = affinity(spec)?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let [term] = required.node_selector_terms.as_slice() else { return None };
    let named = |field: &&NodeSelectorRequirement| field.key == "metadata.name" && field.operator == "In";
    let field = term.match_fields.iter().flatten().find(named)?;
    match field.values.as_deref() {
        Some([name]) => Some(name),
        _ => None,
    }
}

fn affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.iter().flatten().next().is_none()
        && term.match_fields.iter().flatten().next().is_none()
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { None };
    !is_empty(term)
        && term.match_expressions.iter().flatten().all(|wanted| meets(wanted, label(&wanted.key)))
        && term.match_fields.iter().flatten().all(|wanted| meets(wanted, field(&wanted.key)))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = || requirement.values.iter().flatten().map(String::as_str);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || values().next().and_then(number);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values().any(|v| v == value)),
        "NotIn" => !value.is_some_and(|value| values().any(|v| v == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value > bound),
        "Lt" => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
