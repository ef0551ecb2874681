//! Which OCI runtime makes a pod's containers.

use super::Node;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use manifests::{Kind, ObjectKey};
use runtime::plan::{Handler, PodPlan};
use runtime::status::Problem;

fn problem(message: String) -> Problem {
    Problem::Pod { reason: "CreatePodSandboxError".to_owned(), message }
}

/// The plan names the runtime that the pod's RuntimeClass does, if it has one.
pub(super) fn choose(node: &Node, pod: &Pod, plan: &mut PodPlan) -> Result<(), Problem> {
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else { return Ok(()) };
    let found = node.store.get(&ObjectKey::new(Kind::RuntimeClass, "", class));
    let handler = found.as_deref().and_then(|object| <&RuntimeClass>::try_from(object).ok());
    let Some(handler) = handler.map(|class| class.handler.as_str()) else {
        return Err(problem(format!("RuntimeClass \"{class}\" not found")));
    };
    let handler = find(node, handler)?;
    // What the other runtime would have to know of, and does not.
    for (wanted, field) in [
        (plan.security.own_users, "hostUsers: false"),
        (plan.security.share_processes, "shareProcessNamespace"),
    ] {
        if wanted {
            return Err(problem(format!("{field} is not supported with RuntimeClass \"{class}\"")));
        }
    }
    plan.security.handler = Some(handler);
    Ok(())
}

fn find(node: &Node, name: &str) -> Result<Handler, Problem> {
    let found = node.facts.rules.runtimes.iter().find(|one| one.name == name).cloned();
    found.ok_or_else(|| problem(format!("no runtime for \"{name}\" is configured")))
}
