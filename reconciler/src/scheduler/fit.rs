//! Whether a Pod may run on a node.

use manifests::k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};
use manifests::quantity::Quantity;
use std::borrow::Cow;

/// That a Pod does not want to be there.
pub(super) const UNSELECTED: &str = "node(s) didn't match Pod's node affinity/selector";

/// Why `pod` may not run on `node`, in the words of Kubernetes' scheduler; `None` if it may.
pub(super) fn refusal(pod: &Pod, node: &Node) -> Option<Cow<'static, str>> {
    let tolerations = || pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerated = |taint: &Taint| {
        tolerations().any(|toleration| tolerates(toleration, taint))
            || (taint.key == MEMORY_PRESSURE && taint.effect == "NoSchedule" && asks_for_something(pod))
    };
    let spec = node.spec.as_ref();
    if spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if !tolerated(&cordon) {
            return Some("node(s) were unschedulable".into());
        }
    }
    let mut taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if let Some(taint) = taints.find(|taint| taint.effect != "PreferNoSchedule" && !tolerated(taint)) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into());
    }
    if !is_selected(pod, node) {
        return Some(UNSELECTED.into());
    }
    None
}

/// Every Pod but those of class BestEffort tolerates it, as Kubernetes has it.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// False for a Pod of class BestEffort.
fn asks_for_something(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut all = containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    all.any(|resources| {
        let amounts = [&resources.requests, &resources.limits].into_iter().flatten();
        amounts.flatten().any(|(name, amount)| {
            matches!(name.as_str(), "cpu" | "memory")
                && Quantity::parse(&amount.0).is_ok_and(|amount| amount.millis_ceil() > 0)
        })
    })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value =
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<i64>().ok());
    let compared = number(&taint.value).zip(number(&toleration.value));
    let value = || match toleration.operator.as_deref() {
        Some("Lt") => compared.is_some_and(|(taint, limit)| taint < limit),
        Some("Gt") => compared.is_some_and(|(taint, limit)| taint > limit),
        _ => value(),
    };
    (effect.is_empty() || effect == taint.effect)
        && ((key.is_empty() && exists) || key == taint.key)
        && (exists || value())
}

fn is_selected(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { None };
    let expressions = || term.match_expressions.iter().flatten();
    let fields = || term.match_fields.iter().flatten();
    (expressions().next().is_some() || fields().next().is_some())
        && expressions().all(|requirement| meets(requirement, label(&requirement.key)))
        && fields().all(|requirement| meets(requirement, field(&requirement.key)))
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
