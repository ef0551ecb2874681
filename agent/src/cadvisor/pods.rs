//! The metrics of every pod on the node, for Prometheus.

use super::{Sample, text};
use crate::netdev;
use crate::node::Node;
use jiff::Timestamp;
use runtime::cgroup::PodStats;
use runtime::pods::PodDisk;
use runtime::state::{ContainerState, ContainerStatus, PodState, Stage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is good to know what a pod takes up on disk: each of its files has to be looked at.
const DISK_PERIOD: Duration = Duration::from_secs(60);

/// Looks at the node's pods when somebody asks.
#[derive(Debug)]
pub(crate) struct Scraper {
    node: Arc<Node>,
    /// By the pod's uid.
    disks: Mutex<BTreeMap<String, (Instant, PodDisk)>>,
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

impl Scraper {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, disks: Mutex::default() }
    }

    /// What every pod and container uses now, as Prometheus text. Blocking.
    pub(crate) fn scrape(&self) -> String {
        let mut observed = self.node.runtime.observe();
        observed.retain(|_, state| !matches!(state.stage, Stage::Finished | Stage::Lost));
        let mut samples = Vec::new();
        for state in observed.values() {
            self.add_pod(state, &mut samples);
        }
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|uid, _| observed.contains_key(uid));
        text::render(&samples)
    }

    fn add_pod(&self, state: &PodState, samples: &mut Vec<Sample>) {
        let runtime = &self.node.runtime;
        let stats = runtime.stats(&state.uid);
        let id = format!("/{}", stats.pod.cgroup);
        let mut sample = Sample::new([&id, "", "", &state.namespace, &state.name, ""]);
        sample.add_group(&stats.pod, &runtime.counters(&stats.pod.cgroup));
        // In the host's network it has none of its own.
        if !state.addresses.is_empty() {
            sample.add_network(&netdev::of_process(state.supervisor_pid));
        }
        sample.add_times(seconds(state.created_at), seconds(Timestamp::now()));
        samples.push(sample);
        let disk = self.disk(&state.uid);
        let containers = state.init_containers.iter().chain(&state.containers);
        samples.extend(containers.filter_map(|one| self.container(state, one, &stats, &disk)));
    }

    fn container(
        &self,
        pod: &PodState,
        container: &ContainerStatus,
        stats: &PodStats,
        disk: &PodDisk,
    ) -> Option<Sample> {
        let ContainerState::Running { started_at, .. } = &container.state else { return None };
        let (group, name) = (stats.containers.get(&container.name)?, &container.name);
        let id = format!("/{}", group.cgroup);
        let mut sample =
            Sample::new([&id, &container.container_id, &container.image, &pod.namespace, &pod.name, name]);
        let counters = self.node.runtime.counters(&group.cgroup);
        sample.add_group(group, &counters);
        sample.add_processes(group, &counters);
        let layer = disk.containers.get(name).map_or(0, |disk| disk.layer.bytes);
        sample.add_disk(layer, &self.node.runtime.pod_folder(&pod.uid).join("layers").join(name));
        sample.add_times(seconds(*started_at), seconds(Timestamp::now()));
        Some(sample)
    }

    fn disk(&self, uid: &str) -> PodDisk {
        let known = self.disks.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
        if let Some((at, disk)) = known
            && at.elapsed() < DISK_PERIOD
        {
            return disk;
        }
        let disk = self.node.runtime.disk(uid);
        let now = (Instant::now(), disk.clone());
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), now);
        disk
    }
}
