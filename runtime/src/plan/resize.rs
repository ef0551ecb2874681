//! Changes of what running containers may use. Pure.

use super::build::NodeFacts;
use super::error::Cause;
use super::{Resources, resource};
use crate::state::PodState;
use k8s_openapi::api::core::v1::{Container, Pod};

/// A container that is to have other limits than it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// Its name.
    pub container: String,
    /// Its limits from now on.
    pub limits: Resources,
    /// Its program learns of them by being started again.
    pub restart: bool,
}

/// What has to change for the containers of `pod` to have what it asks for now.
///
/// # Errors
/// If a quantity is none.
pub fn resizes(pod: &Pod, node: &NodeFacts, state: &PodState) -> Result<Vec<Resize>, Cause> {
    let mut all = Vec::new();
    for container in containers(pod) {
        let Some(have) = state.limits.get(&container.name) else { continue };
        let limits = resource::container(container, node)?;
        if differ(have, &limits) {
            let restart = restarts(container, have, &limits);
            all.push(Resize { container: container.name.clone(), limits, restart });
        }
    }
    Ok(all)
}

/// The limits of the whole pod, as it asks for them now.
///
/// # Errors
/// If a quantity is none.
pub fn pod_limits(pod: &Pod, node: &NodeFacts) -> Result<Resources, Cause> {
    pod.spec.as_ref().map_or_else(|| Ok(Resources::default()), |spec| resource::pod(spec, node))
}

/// True if the container does not have what it asks for.
pub(crate) fn is_due(container: &Container, have: &Resources) -> bool {
    resource::asked(container).is_ok_and(|wanted| differ(have, &wanted))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
}

/// Of what can change in a container that runs: CPU and memory.
fn differ(one: &Resources, other: &Resources) -> bool {
    cpu(one) != cpu(other) || one.memory_bytes != other.memory_bytes
}

const fn cpu(resources: &Resources) -> (Option<u64>, Option<u64>) {
    (resources.cpu_millis, resources.cpu_shares)
}

fn restarts(container: &Container, have: &Resources, next: &Resources) -> bool {
    container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && match policy.resource_name.as_str() {
                "cpu" => cpu(have) != cpu(next),
                "memory" => have.memory_bytes != next.memory_bytes,
                _ => false,
            }
    })
}
