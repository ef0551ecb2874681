//! On which nodes a DaemonSet's pod belongs.

use crate::scheduler::selection::is_selected;
use crate::scheduler::taint::{daemons_tolerate, tolerates};
use k8s_openapi::api::core::v1::{Node, PodSpec, PodTemplateSpec, Taint};

/// How a template fits a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// A pod should be made there.
    pub(super) wanted: bool,
    /// A pod that is there may stay.
    pub(super) tolerated: bool,
}

/// How the pods of `template` fit `node`: by name, labels, affinity and taints.
pub(super) fn fit(template: &PodTemplateSpec, node: &Node) -> Fit {
    let Some(spec) = &template.spec else { return Fit { wanted: true, tolerated: true } };
    if !is_chosen(spec, node) {
        return Fit { wanted: false, tolerated: false };
    }
    let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let repelled_by =
        |effect: &str| taints().any(|taint| taint.effect == effect && !is_tolerated(spec, taint));
    let tolerated = !repelled_by("NoExecute");
    Fit { wanted: tolerated && !repelled_by("NoSchedule"), tolerated }
}

fn is_chosen(spec: &PodSpec, node: &Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let elsewhere = spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    !elsewhere && is_selected(spec, node)
}

fn is_tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    daemons_tolerate(&taint.key)
        || spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
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
