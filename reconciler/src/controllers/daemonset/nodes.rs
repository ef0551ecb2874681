//! On which nodes a DaemonSet's pod belongs.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PodTemplateSpec, Taint, Toleration,
};
use std::collections::BTreeMap;

/// How a template fits a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// A pod should be made there.
    pub(super) wanted: bool,
    /// A pod that is there may stay.
    pub(super) tolerated: bool,
}

/// Taints that a daemon is there to live with: Kubernetes lets every DaemonSet tolerate them.
const DAEMONS_TOLERATE: [&str; 6] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];

/// How the pods of `template` fit `node`: by name, labels, affinity and taints.
pub(super) fn fit(template: &PodTemplateSpec, node: &Node) -> Fit {
    let Some(spec) = &template.spec else { return Fit { wanted: true, tolerated: true } };
    if !is_selected(spec, node) {
        return Fit { wanted: false, tolerated: false };
    }
    let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let repelled_by =
        |effect: &str| taints().any(|taint| taint.effect == effect && !is_tolerated(spec, taint));
    let tolerated = !repelled_by("NoExecute");
    Fit { wanted: tolerated && !repelled_by("NoSchedule"), tolerated }
}

fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name) {
        return false;
    }
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required
        .is_none_or(|selector| selector.node_selector_terms.iter().any(|term| fits_term(term, name, labels)))
}

fn fits_term(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_field =
        |field: &NodeSelectorRequirement| fulfils(field, (field.key == "metadata.name").then_some(name));
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|wanted| fulfils(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields.iter().all(by_field)
}

fn fulfils(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(own, limit)| own > limit),
        "Lt" => numbers().is_some_and(|(own, limit)| own < limit),
        _ => false,
    }
}

fn is_tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    DAEMONS_TOLERATE.contains(&taint.key.as_str())
        || spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let exists = toleration.operator.as_deref() == Some("Exists");
    match given(&toleration.key) {
        None => exists,
        Some(key) if key != taint.key => false,
        Some(_) => exists || given(&toleration.value) == given(&taint.value),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fit, fit};
    use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
    use serde_json::json;

    fn fits(spec: serde_json::Value, node: serde_json::Value) -> Fit {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let template: PodTemplateSpec = serde_json::from_value(json!({ "spec": spec })).unwrap();
        let node: Node = serde_json::from_value(node).unwrap();
        fit(&template, &node)
    }

    #[test]
    fn a_node_is_chosen_by_name_label_and_affinity() {
        let node = json!({"metadata": {"name": "a", "labels": {"disk": "ssd", "cores": "8"}}});
        let requirement = |key: &str, operator: &str, values: &[&str]| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": key, "operator": operator, "values": values}
                ]}]
            }}}})
        };
        let cases = [
            (json!({}), true),
            (json!({"nodeName": "a"}), true),
            (json!({"nodeName": "b"}), false),
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (requirement("disk", "In", &["nvme", "ssd"]), true),
            (requirement("disk", "NotIn", &["ssd"]), false),
            (requirement("gpu", "Exists", &[]), false),
            (requirement("gpu", "DoesNotExist", &[]), true),
            (requirement("cores", "Gt", &["4"]), true),
            (requirement("cores", "Lt", &["8"]), false),
        ];
        for (spec, wanted) in cases {
            assert_eq!(fits(spec.clone(), node.clone()).wanted, wanted, "{spec}");
        }
    }

    #[test]
    fn taints_repel_what_does_not_tolerate_them() {
        let tainted = |key: &str, effect: &str| json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": key, "value": "v", "effect": effect}]}});
        let fit = |wanted, tolerated| Fit { wanted, tolerated };
        assert_eq!(fits(json!({}), tainted("k", "NoSchedule")), fit(false, true));
        assert_eq!(fits(json!({}), tainted("k", "NoExecute")), fit(false, false));
        assert_eq!(fits(json!({}), tainted("k", "PreferNoSchedule")), fit(true, true));
        assert_eq!(fits(json!({}), tainted("node.kubernetes.io/not-ready", "NoExecute")), fit(true, true));
        let tolerating = json!({"tolerations": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        assert_eq!(fits(tolerating.clone(), tainted("k", "NoSchedule")), fit(true, true));
        assert_eq!(fits(tolerating, tainted("other", "NoSchedule")), fit(false, true));
        assert_eq!(
            fits(json!({"tolerations": [{"operator": "Exists"}]}), tainted("k", "NoExecute")),
            fit(true, true)
        );
    }
}
