//! Requests and limits as the kernel takes them.

use super::build::NodeFacts;
use super::error::Cause;
use super::quantity::{bytes, millis};
use super::{Devices, Resources};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceFieldSelector, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// The cgroups of pods that share what guaranteed ones leave: those who asked for something, and
/// those who asked for nothing.
pub(crate) const TIERS: [&str; 2] = ["burstable", "besteffort"];

/// `oom_score_adj` of containers that asked for all that they may have.
const GUARANTEED: i32 = -997;

/// The cgroup that holds the pods of a quality of service, below the `root` of all pods. Pods that
/// are guaranteed what they have are right in it.
pub(super) fn tier(root: &str, qos: &str) -> String {
    match qos {
        "Burstable" => format!("{root}/{}", TIERS[0]),
        "BestEffort" => format!("{root}/{}", TIERS[1]),
        _ => root.to_owned(),
    }
}

/// The limits of one container.
pub(super) fn container(container: &Container, node: &NodeFacts) -> Result<Resources, Cause> {
    let amounts = Amounts::of(container.resources.as_ref())?;
    let context = container.security_context.as_ref();
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    let devices = if privileged { Devices::All } else { Devices::Usual(Vec::new()) };
    let cpu_period_us = node.rules.cpu_period_us;
    Ok(Resources { pids: node.default_pids, devices, cpu_period_us, ..amounts.resources() })
}

/// What the container asks for, whatever the node's rules are.
pub(super) fn asked(container: &Container) -> Result<Resources, Cause> {
    Amounts::of(container.resources.as_ref()).map(Amounts::resources)
}

/// The limits of the whole pod: the sum of its containers' and sidecars', at least what each
/// init container needs beside the sidecars before it, and none where one container has none.
pub(super) fn pod(spec: &PodSpec, node: &NodeFacts) -> Result<Resources, Cause> {
    let nothing = Amounts { cpu_limit: Some(0), memory_limit: Some(0), ..Amounts::default() };
    let (mut sidecars, mut peak) = (nothing.clone(), nothing.clone());
    for container in spec.init_containers.iter().flatten() {
        let beside =
            sidecars.clone().combine(Amounts::of(container.resources.as_ref())?, u64::saturating_add);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = beside.clone();
        }
        peak = peak.combine(beside, u64::max);
    }
    let mut total = sidecars;
    for container in &spec.containers {
        total = total.combine(Amounts::of(container.resources.as_ref())?, u64::saturating_add);
    }
    total = total.combine(peak, u64::max);
    if let Some(own) = &spec.resources {
        let own = Amounts::of(Some(own))?;
        total = Amounts {
            cpu_limit: own.cpu_limit.or(total.cpu_limit),
            memory_limit: own.memory_limit.or(total.memory_limit),
            cpu_request: if own.cpu_request > 0 { own.cpu_request } else { total.cpu_request },
            hugepages: if own.hugepages.is_empty() { total.hugepages } else { own.hugepages },
        };
    }
    total.burden(spec)?;
    Ok(Resources { cpu_period_us: node.rules.cpu_period_us, ..total.resources() })
}

/// What a manifest asks for; a limit of `None` is no limit.
#[derive(Clone, Default)]
struct Amounts {
    cpu_limit: Option<u64>,
    memory_limit: Option<u64>,
    cpu_request: u64,
    hugepages: BTreeMap<u64, u64>,
}

impl Amounts {
    fn of(requirements: Option<&ResourceRequirements>) -> Result<Self, Cause> {
        let cpu_limit = limit(requirements, "cpu").map(millis).transpose()?.filter(|&millis| millis > 0);
        Ok(Self {
            cpu_limit,
            memory_limit: limit(requirements, "memory").map(bytes).transpose()?.filter(|&bytes| bytes > 0),
            cpu_request: request(requirements, "cpu").map(millis).transpose()?.or(cpu_limit).unwrap_or(0),
            hugepages: hugepages(requirements)?,
        })
    }

    fn combine(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpu_limit: self.cpu_limit.zip(other.cpu_limit).map(|(a, b)| with(a, b)),
            memory_limit: self.memory_limit.zip(other.memory_limit).map(|(a, b)| with(a, b)),
            cpu_request: with(self.cpu_request, other.cpu_request),
            hugepages: {
                let mut all = self.hugepages;
                for (size, bytes) in other.hugepages {
                    let have = all.get(&size).copied().unwrap_or(0);
                    all.insert(size, with(have, bytes));
                }
                all
            },
        }
    }

    /// What the pod costs beside its containers comes on top; what has no limit gets none by it.
    fn burden(&mut self, spec: &PodSpec) -> Result<(), Cause> {
        let of = |name: &str| spec.overhead.as_ref().and_then(|overhead| overhead.get(name));
        let cpu = of("cpu").map(millis).transpose()?.unwrap_or(0);
        let memory = of("memory").map(bytes).transpose()?.unwrap_or(0);
        self.cpu_request = self.cpu_request.saturating_add(cpu);
        self.cpu_limit = self.cpu_limit.filter(|&limit| limit > 0).map(|limit| limit.saturating_add(cpu));
        self.memory_limit =
            self.memory_limit.filter(|&limit| limit > 0).map(|limit| limit.saturating_add(memory));
        Ok(())
    }

    fn resources(self) -> Resources {
        let shares = self.cpu_request.saturating_mul(1024) / 1000;
        Resources {
            memory_bytes: self.memory_limit,
            cpu_millis: self.cpu_limit,
            cpu_shares: Some(shares.clamp(MIN_SHARES, MAX_SHARES)),
            hugepages: self.hugepages,
            ..Resources::default()
        }
    }
}

/// Bytes by the size of a page.
fn hugepages(requirements: Option<&ResourceRequirements>) -> Result<BTreeMap<u64, u64>, Cause> {
    let limits = requirements.and_then(|all| all.limits.as_ref());
    let sizes = limits
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((Quantity(name.strip_prefix("hugepages-")?.to_owned()), amount)));
    sizes.map(|(size, amount)| Ok((bytes(&size)?, bytes(amount)?))).collect()
}

fn limit<'a>(requirements: Option<&'a ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    requirements?.limits.as_ref()?.get(name)
}

fn request<'a>(requirements: Option<&'a ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    requirements?.requests.as_ref()?.get(name)
}

/// The value of a `resourceFieldRef` to `container`, rounded up to its divisor.
/// A limit that is not set is what the node has.
///
/// # Errors
/// If the resource is none that Kubernetes has here.
pub(crate) fn resource_field(
    selector: &ResourceFieldSelector,
    container: &Container,
    node: &NodeFacts,
) -> Result<String, Cause> {
    let requirements = container.resources.as_ref();
    let unknown = || Cause::UnknownResource { resource: selector.resource.clone() };
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    let measure = if name == "cpu" { millis } else { bytes };
    let set = match kind {
        _ if !known => return Err(unknown()),
        "limits" => limit(requirements, name),
        "requests" => request(requirements, name),
        _ => return Err(unknown()),
    };
    let value = match set.map(measure).transpose()? {
        Some(value) if value > 0 || kind == "requests" => value,
        _ if kind == "requests" => 0,
        _ if name == "cpu" => node.cpu_millis,
        _ if name == "memory" => node.memory_bytes,
        _ if name == "ephemeral-storage" => node.storage_bytes,
        _ => 0,
    };
    let one = if name == "cpu" { 1000 } else { 1 };
    let divisor = selector.divisor.as_ref().map(measure).transpose()?.filter(|&d| d > 0).unwrap_or(one);
    Ok(value.div_ceil(divisor).to_string())
}

/// How readily the kernel kills the container when the node has no memory left, by the kubelet's
/// formula: what it did not ask for counts against it.
pub(super) fn oom_score_adj(
    container: &Container,
    qos: &str,
    node: &NodeFacts,
) -> Result<Option<i32>, Cause> {
    if qos == "Guaranteed" {
        return Ok(Some(GUARANTEED));
    }
    if qos == "BestEffort" {
        return Ok(Some(1000));
    }
    let requirements = container.resources.as_ref();
    let asked = request(requirements, "memory").or_else(|| limit(requirements, "memory"));
    let asked = asked.map(bytes).transpose()?.unwrap_or(0);
    let share = asked.saturating_mul(1000).checked_div(node.memory_bytes).unwrap_or(0).min(1000);
    let score = 1000 - i32::try_from(share).unwrap_or(1000);
    // Above every Guaranteed container, and below every BestEffort one.
    Ok(Some(score.clamp(1000 + GUARANTEED, 999)))
}
