//! What Pods ask for and nodes offer, as numbers. Pure.

use manifests::k8s_openapi::api::core::v1::{Container, PodSpec};
use manifests::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use manifests::quantity::Quantity;
use std::collections::BTreeMap;

/// What a container that asks for nothing counts as where nodes are compared: Kubernetes' numbers.
const SLIGHT_CPU_MILLIS: i64 = 100;
const SLIGHT_MEMORY_BYTES: i64 = 200 << 20;

/// Amounts of every resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    pub(crate) cpu_millis: i64,
    /// Bytes.
    pub(crate) memory_bytes: i64,
    /// Bytes of what is written by containers, logs and volumes on the node's disk.
    pub(crate) storage_bytes: i64,
    /// Pods.
    pub(crate) pods: i64,
    /// Everything else by its name: huge pages, devices.
    pub(crate) other: BTreeMap<String, i64>,
    /// As `cpu_millis`, with something for containers that ask for nothing.
    pub(crate) weighed_cpu_millis: i64,
    /// As `memory_bytes`, likewise.
    pub(crate) weighed_memory_bytes: i64,
}

impl Amounts {
    /// As `status.allocatable` or `requests` have them; what cannot be read counts as nothing.
    pub(super) fn of(list: &BTreeMap<String, Text>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list {
            amounts.set(name, text);
        }
        amounts.weighed_cpu_millis = amounts.cpu_millis;
        amounts.weighed_memory_bytes = amounts.memory_bytes;
        amounts
    }

    fn set(&mut self, name: &str, text: &Text) {
        let Ok(quantity) = Quantity::parse(&text.0) else { return };
        match name {
            "cpu" => self.cpu_millis = quantity.millis_ceil(),
            "memory" => self.memory_bytes = quantity.bytes_ceil(),
            "ephemeral-storage" => self.storage_bytes = quantity.bytes_ceil(),
            "pods" => self.pods = quantity.bytes_ceil(),
            _ => drop(self.other.insert(name.to_owned(), quantity.bytes_ceil())),
        }
    }

    /// What a Pod needs of its node: the more of what its containers need together and what each
    /// init container needs beside the sidecars that were started before it, and the overhead.
    #[must_use]
    pub(crate) fn of_pod(spec: &PodSpec) -> Self {
        let mut together = Self::default();
        spec.containers.iter().for_each(|container| together.add(&of_container(container)));
        let mut sidecars = Self::default();
        let mut first = Self::default();
        for init in spec.init_containers.iter().flatten() {
            let mut now = of_container(init);
            if init.restart_policy.as_deref() == Some("Always") {
                together.add(&now);
                sidecars.add(&now);
                first.raise(&sidecars);
            } else {
                now.add(&sidecars);
                first.raise(&now);
            }
        }
        together.raise(&first);
        together.say_for_pod(spec);
        if let Some(overhead) = &spec.overhead {
            together.add(&Self::of(overhead));
        }
        together.pods = 1;
        together
    }

    /// Resources of the Pod as a whole stand for those of its containers.
    fn say_for_pod(&mut self, spec: &PodSpec) {
        let Some(resources) = &spec.resources else { return };
        let limits = resources.limits.iter().flatten();
        for (name, text) in limits.chain(resources.requests.iter().flatten()) {
            self.set(name, text);
            match name.as_str() {
                "cpu" => self.weighed_cpu_millis = self.cpu_millis,
                "memory" => self.weighed_memory_bytes = self.memory_bytes,
                _ => {}
            }
        }
    }

    /// Adds `more`.
    pub(super) fn add(&mut self, more: &Self) {
        self.each(more, i64::saturating_add);
    }

    /// Takes `less` away.
    pub(super) fn subtract(&mut self, less: &Self) {
        self.each(less, i64::saturating_sub);
        self.other.retain(|_, amount| *amount != 0);
    }

    /// Of every resource, the larger amount.
    fn raise(&mut self, other: &Self) {
        self.each(other, i64::max);
    }

    fn each(&mut self, other: &Self, join: impl Fn(i64, i64) -> i64) {
        self.cpu_millis = join(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = join(self.memory_bytes, other.memory_bytes);
        self.storage_bytes = join(self.storage_bytes, other.storage_bytes);
        self.pods = join(self.pods, other.pods);
        self.weighed_cpu_millis = join(self.weighed_cpu_millis, other.weighed_cpu_millis);
        self.weighed_memory_bytes = join(self.weighed_memory_bytes, other.weighed_memory_bytes);
        for (name, amount) in &other.other {
            let own = self.other.entry(name.clone()).or_default();
            *own = join(*own, *amount);
        }
    }
}

/// What one container asks for; a limit without a request is one.
fn of_container(container: &Container) -> Amounts {
    let mut amounts = Amounts::default();
    let mut named = [false; 2];
    if let Some(resources) = &container.resources {
        let limits = resources.limits.iter().flatten();
        for (name, text) in limits.chain(resources.requests.iter().flatten()) {
            amounts.set(name, text);
            named[0] |= name == "cpu";
            named[1] |= name == "memory";
        }
    }
    amounts.weighed_cpu_millis = if named[0] { amounts.cpu_millis } else { SLIGHT_CPU_MILLIS };
    amounts.weighed_memory_bytes = if named[1] { amounts.memory_bytes } else { SLIGHT_MEMORY_BYTES };
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: serde_json::Value) -> Amounts {
        Amounts::of_pod(&serde_json::from_value(spec).unwrap())
    }

    fn container(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn containers_add_up_and_init_containers_come_one_at_a_time() {
        let spec = json!({
            "containers": [container("100m", "64Mi"), container("200m", "64Mi")],
            "initContainers": [container("250m", "1Gi"), container("1", "1Mi")],
            "overhead": {"cpu": "10m", "memory": "1Mi"},
        });
        let amounts = of(spec);
        assert_eq!((amounts.cpu_millis, amounts.memory_bytes, amounts.pods), (1010, 1025 << 20, 1));
    }

    #[test]
    fn sidecars_count_beside_the_containers_and_beside_later_init_containers() {
        let mut sidecar = container("100m", "10Mi");
        sidecar["restartPolicy"] = "Always".into();
        let spec = |inits: serde_json::Value| json!({"containers": [container("300m", "10Mi")], "initContainers": inits});
        assert_eq!(of(spec(json!([sidecar]))).cpu_millis, 400);
        assert_eq!(of(spec(json!([sidecar, container("350m", "1Mi")]))).cpu_millis, 450);
        assert_eq!(of(spec(json!([container("350m", "1Mi"), sidecar]))).cpu_millis, 400);
    }

    #[test]
    fn limits_stand_in_for_requests_and_the_pod_for_its_containers() {
        let limited = json!({"name": "c", "resources": {"limits": {"cpu": "2", "hugepages-2Mi": "4Mi", "example.com/gpu": "1"}}});
        let amounts = of(json!({"containers": [limited]}));
        assert_eq!(
            (amounts.cpu_millis, amounts.other["hugepages-2Mi"], amounts.other["example.com/gpu"]),
            (2000, 4 << 20, 1)
        );
        assert_eq!((amounts.memory_bytes, amounts.weighed_memory_bytes), (0, 200 << 20));
        let whole =
            json!({"containers": [container("2", "1Gi")], "resources": {"requests": {"cpu": "500m"}}});
        assert_eq!((of(whole.clone()).cpu_millis, of(whole).memory_bytes), (500, 1 << 30));
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let limited = json!({"name": "c", "resources": {"limits": {"cpu": "2", "example.com/gpu": "1"}}});
        let one = of(json!({"containers": [limited]}));
        let mut sum = one.clone();
        sum.add(&one);
        sum.subtract(&one);
        assert_eq!(sum, one);
        sum.subtract(&one);
        assert_eq!(sum, Amounts::default());
    }
}
