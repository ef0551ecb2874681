//! What the machine has, and what of it pods may use: computed as the kubelet does. Pure.

use super::amount::binary;
use super::registration::Machine;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use manifests::config::{NodeConfiguration, Signal};
use std::collections::BTreeMap;

/// How many pods a node takes.
const PODS: u64 = 1000;

/// Amounts of what a node offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Thousandths of a core.
    pub(crate) cpu_millis: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// Bytes of the disk that holds what pods write.
    pub(crate) storage_bytes: u64,
    /// Bytes by the size of the page, as `2Mi`.
    pub(crate) huge_pages: BTreeMap<String, u64>,
}

impl Resources {
    /// All that `machine` has.
    pub(crate) fn capacity(machine: &Machine) -> Self {
        Self {
            cpu_millis: u64::try_from(machine.cores).unwrap_or(1).saturating_mul(1000),
            memory_bytes: machine.memory_bytes,
            storage_bytes: machine.storage_bytes,
            huge_pages: machine.huge_pages.clone(),
        }
    }

    /// Without what is reserved, and without what must stay free lest pods are ended.
    pub(crate) fn allocatable(&self, configuration: &NodeConfiguration) -> Self {
        let kept = |signal: Signal, capacity: u64| {
            let thresholds = configuration.thresholds();
            let hard = thresholds.iter().find(|one| one.signal == signal && one.grace.is_none());
            hard.map_or(0, |threshold| threshold.least.of(capacity))
        };
        let memory = configuration.reserved("memory") + kept(Signal::MemoryAvailable, self.memory_bytes);
        let storage =
            configuration.reserved("ephemeral-storage") + kept(Signal::NodefsAvailable, self.storage_bytes);
        let huge: u64 = self.huge_pages.values().sum();
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(configuration.reserved("cpu")),
            // Pages that are set aside cannot be used for anything else.
            memory_bytes: self.memory_bytes.saturating_sub(memory).saturating_sub(huge),
            storage_bytes: self.storage_bytes.saturating_sub(storage),
            huge_pages: self.huge_pages.clone(),
        }
    }

    /// As a Node object has them.
    pub(crate) fn quantities(&self) -> BTreeMap<String, Quantity> {
        let cpu = match self.cpu_millis {
            millis if millis % 1000 == 0 => (millis / 1000).to_string(),
            millis => format!("{millis}m"),
        };
        let kibibytes = |bytes: u64| Quantity(format!("{}Ki", bytes / 1024));
        let mut all = BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu)),
            ("memory".to_owned(), kibibytes(self.memory_bytes)),
            ("ephemeral-storage".to_owned(), kibibytes(self.storage_bytes)),
            ("pods".to_owned(), Quantity(PODS.to_string())),
        ]);
        for (size, bytes) in &self.huge_pages {
            all.insert(format!("hugepages-{size}"), Quantity(binary(*bytes)));
        }
        all
    }
}

/// Huge pages of each size that the kernel has, in bytes.
pub(super) fn huge_pages() -> BTreeMap<String, u64> {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return BTreeMap::new() };
    let read = |size: std::fs::DirEntry| {
        let name = size.file_name().into_string().ok()?;
        let bytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()? * 1024;
        let count = std::fs::read_to_string(size.path().join("nr_hugepages")).ok()?;
        Some((binary(bytes), count.trim().parse::<u64>().ok()?.saturating_mul(bytes)))
    };
    sizes.flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_and_what_must_stay_free_is_not_for_pods() {
        let words = |list: &[(&str, &str)]| {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let configuration = NodeConfiguration {
            kube_reserved: words(&[("cpu", "250m"), ("memory", "1Gi")]),
            system_reserved: words(&[("cpu", "250m"), ("ephemeral-storage", "1Gi")]),
            ..NodeConfiguration::default()
        };
        let capacity = Resources {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            storage_bytes: 100 << 30,
            huge_pages: BTreeMap::from([("2Mi".to_owned(), 64 << 20)]),
        };
        let allocatable = capacity.allocatable(&configuration).quantities();
        let of = |name: &str| allocatable[name].0.as_str();
        assert_eq!(of("cpu"), "3500m");
        // Less the reserved, the 100Mi of evictionHard, and the huge pages.
        assert_eq!(of("memory"), format!("{}Ki", (7 * 1024 - 100 - 64) * 1024));
        assert_eq!(of("ephemeral-storage"), format!("{}Ki", (100 - 1 - 10) * 1024 * 1024));
        assert_eq!((of("hugepages-2Mi"), of("pods")), ("64Mi", "1000"));
        assert_eq!(capacity.quantities()["cpu"].0, "4");
    }
}
