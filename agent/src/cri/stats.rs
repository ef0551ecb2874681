//! What sandboxes and containers use.

use super::book::{Container, Sandbox};
use super::{Cri, filter, image, state, v1};
use crate::netdev::{self, Interface};
use jiff::Timestamp;
use runtime::cgroup::GroupStats;
use tonic::Status;

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn now() -> i64 {
    state::nanoseconds(Timestamp::now())
}

fn cpu(group: &GroupStats) -> v1::CpuUsage {
    let usage_core_nano_seconds = value(group.cpu_nanoseconds);
    v1::CpuUsage { timestamp: now(), usage_core_nano_seconds, usage_nano_cores: None, psi: None }
}

fn memory(group: &GroupStats) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp: now(),
        working_set_bytes: value(group.working_set_bytes),
        usage_bytes: value(group.memory_bytes),
        rss_bytes: value(group.working_set_bytes),
        ..v1::MemoryUsage::default()
    }
}

fn interface(one: Interface) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: one.name,
        rx_bytes: value(one.received.bytes),
        rx_errors: value(one.received.errors),
        tx_bytes: value(one.sent.bytes),
        tx_errors: value(one.sent.errors),
    }
}

impl Cri {
    fn stats_of(&self, container: &Container, group: &GroupStats) -> v1::ContainerStats {
        let layer = self.node.runtime.pod_folder(&container.sandbox).join("layers").join(&container.id);
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(cpu(group)),
            memory: Some(memory(group)),
            writable_layer: Some(image::usage(&layer)),
            swap: None,
            io: None,
        }
    }

    /// Blocking.
    pub(super) fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Status> {
        let container = self.book.container(id)?;
        let mut stats = self.node.runtime.stats(&container.sandbox);
        let group = stats.containers.remove(&container.id).unwrap_or_default();
        Ok(self.stats_of(&container, &group))
    }

    /// Of those that run. Blocking.
    pub(super) fn list_container_stats(
        &self,
        wanted: Option<&v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let wanted = wanted.cloned().unwrap_or_default();
        let observed = self.node.runtime.observe();
        let runs = |container: &Container| {
            let seen = state::container_state(observed.get(&container.sandbox), &container.id);
            seen.state == v1::ContainerState::ContainerRunning
        };
        let fits = |container: &Container| {
            filter::id_fits(&container.id, &wanted.id)
                && filter::id_fits(&container.sandbox, &wanted.pod_sandbox_id)
                && filter::labels_fit(&container.config.labels, &wanted.label_selector)
                && runs(container)
        };
        let all = self.book.containers();
        let chosen = all.iter().filter(|container| fits(container));
        chosen.filter_map(|container| self.container_stats(&container.id).ok()).collect()
    }

    /// Blocking.
    pub(super) fn sandbox_stats(&self, id: &str) -> Result<v1::PodSandboxStats, Status> {
        let sandbox = self.book.sandbox(id)?;
        Ok(self.stats_of_sandbox(&sandbox))
    }

    fn stats_of_sandbox(&self, sandbox: &Sandbox) -> v1::PodSandboxStats {
        let seen = self.seen(&sandbox.id);
        let stats = self.node.runtime.stats(&sandbox.id);
        let own_network = !super::pod::has_host_network(&sandbox.config);
        let pid = seen.as_ref().map(|state| state.supervisor_pid).filter(|_| own_network);
        let mut interfaces = pid.map(netdev::of_process).unwrap_or_default().into_iter().map(interface);
        let network = v1::NetworkUsage {
            timestamp: now(),
            default_interface: interfaces.next(),
            interfaces: interfaces.collect(),
        };
        let containers = self.book.containers_of(&sandbox.id);
        let containers = containers.iter().filter_map(|container| {
            let group = stats.containers.get(&container.id)?;
            Some(self.stats_of(container, group))
        });
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(&stats.pod)),
                memory: Some(memory(&stats.pod)),
                network: Some(network),
                process: Some(v1::ProcessUsage { timestamp: now(), process_count: value(stats.pod.pids) }),
                containers: containers.collect(),
                io: None,
            }),
        }
    }

    /// Of those that are ready. Blocking.
    pub(super) fn list_sandbox_stats(
        &self,
        wanted: Option<&v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let wanted = wanted.cloned().unwrap_or_default();
        let observed = self.node.runtime.observe();
        let fits = |sandbox: &Sandbox| {
            filter::id_fits(&sandbox.id, &wanted.id)
                && filter::labels_fit(&sandbox.config.labels, &wanted.label_selector)
                && state::sandbox_state(observed.get(&sandbox.id)) == v1::PodSandboxState::SandboxReady
        };
        let all = self.book.sandboxes();
        all.iter().filter(|sandbox| fits(sandbox)).map(|sandbox| self.stats_of_sandbox(sandbox)).collect()
    }
}
