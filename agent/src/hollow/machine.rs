//! A machine whose pods are there in memory only: whatever is asked of it goes well, at once.

use crate::node::hands::Hands;
use crate::node::reconcile::Action;
use crate::node::work::Done;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use manifests::Object;
use runtime::state::{ContainerState, ContainerStatus, PodState, Stage, Termination};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Addresses that a node's pods can have, after the node's own.
const ADDRESSES: u32 = 253;

/// The pods of one hollow node.
#[derive(Debug)]
pub(super) struct HollowMachine {
    address: Ipv4Addr,
    pods: Mutex<BTreeMap<String, Arc<PodState>>>,
    version: watch::Sender<u64>,
}

impl HollowMachine {
    /// One without pods, whose own address is `address`.
    pub(super) fn new(address: Ipv4Addr) -> Self {
        Self { address, pods: Mutex::default(), version: watch::Sender::new(0) }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PodState>>> {
        // Whole pods come and go, so a panic cannot leave half of one.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, uid: &str, object: Option<&Object>, action: Action) {
        let mut pods = self.pods();
        match action {
            Action::Start => {
                let Some(pod) = object.and_then(|object| <&Pod>::try_from(object).ok()) else { return };
                let address = is_apart(pod).then(|| self.free_address(&pods)).flatten();
                let state = running(uid, pod, address, Timestamp::now());
                pods.insert(uid.to_owned(), Arc::new(state));
            }
            Action::Stop { .. } => {
                let Some(state) = pods.get_mut(uid).map(Arc::make_mut) else { return };
                state.stage = Stage::Finished;
                let now = Timestamp::now();
                state.containers.iter_mut().for_each(|container| end(container, now));
            }
            Action::Remove => drop(pods.remove(uid)),
            // The address is free with the pod.
            Action::Release | Action::Forget | Action::Fail | Action::WaitUntil(_) => return,
        }
        drop(pods);
        self.version.send_modify(|version| *version += 1);
    }

    fn free_address(&self, pods: &BTreeMap<String, Arc<PodState>>) -> Option<String> {
        let taken: BTreeSet<&String> = pods.values().flat_map(|pod| &pod.addresses).collect();
        let address = |offset: u32| Ipv4Addr::from_bits(self.address.to_bits() + offset).to_string();
        (1..=ADDRESSES).map(address).find(|address| !taken.contains(address))
    }
}

impl Hands for HollowMachine {
    fn observe(&self) -> BTreeMap<String, Arc<PodState>> {
        self.pods().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    async fn perform(self: Arc<Self>, uid: String, pod: Option<Arc<Object>>, action: Action) -> Done {
        self.act(&uid, pod.as_deref(), action);
        Done { uid, failure: None }
    }
}

/// True if the pod has a network of its own.
fn is_apart(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) != Some(true)
}

/// The pod as it is once all of its containers run; or have run, if they are to be run to their end.
fn running(uid: &str, pod: &Pod, address: Option<String>, now: Timestamp) -> PodState {
    let spec = pod.spec.as_ref();
    let is_served = spec.is_none_or(|spec| spec.restart_policy.as_deref().unwrap_or("Always") == "Always");
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let init = init.iter().map(|container| {
        let mut status = started(uid, container, now);
        if container.restart_policy.as_deref() != Some("Always") || !is_served {
            end(&mut status, now);
        }
        status
    });
    let main = main.iter().map(|container| {
        let mut status = started(uid, container, now);
        if !is_served {
            end(&mut status, now);
        }
        status
    });
    PodState {
        uid: uid.to_owned(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        supervisor_pid: 0,
        cgroup: String::new(),
        stage: if is_served { Stage::Started } else { Stage::Finished },
        created_at: now,
        addresses: address.into_iter().collect(),
        init_containers: init.collect(),
        containers: main.collect(),
        limits: BTreeMap::new(),
        notices: Vec::new(),
        by_request: false,
    }
}

fn started(uid: &str, container: &Container, now: Timestamp) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: image.clone(),
        image,
        container_id: format!("{uid}.{}.0", container.name),
        state: ContainerState::Running { pid: 0, started_at: now },
        last: None,
        restarts: 0,
        started: true,
        ready: true,
        status_text: String::new(),
    }
}

fn end(container: &mut ContainerStatus, now: Timestamp) {
    let ContainerState::Running { started_at, .. } = container.state else { return };
    container.ready = false;
    container.state = ContainerState::Terminated(Termination {
        exit_code: 0,
        signal: None,
        reason: "Completed".to_owned(),
        message: String::new(),
        started_at,
        finished_at: now,
        container_id: container.container_id.clone(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn machine() -> Arc<HollowMachine> {
        Arc::new(HollowMachine::new(Ipv4Addr::new(100, 64, 3, 1)))
    }

    fn pod(spec: &Value) -> Arc<Object> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod");
        Arc::new(Object::from(pod))
    }

    #[test]
    fn a_pod_that_serves_runs_until_it_is_stopped() {
        let machine = machine();
        let serving = pod(&json!({"containers": [{"name": "c", "image": "i"}]}));
        machine.act("a", Some(&serving), Action::Start);
        machine.act("b", Some(&serving), Action::Start);
        let seen = machine.observe();
        assert_eq!((seen["a"].stage, seen["a"].containers[0].ready), (Stage::Started, true));
        assert_eq!([&seen["a"].addresses, &seen["b"].addresses], [&["100.64.3.2"], &["100.64.3.3"]]);
        machine.act("a", None, Action::Stop { grace_seconds: 9 });
        let seen = machine.observe();
        assert_eq!((seen["a"].stage, seen["a"].containers[0].ready), (Stage::Finished, false));
        machine.act("a", None, Action::Remove);
        machine.act("c", Some(&serving), Action::Start);
        assert_eq!(machine.observe()["c"].addresses, ["100.64.3.2"], "the address is free again");
    }

    #[test]
    fn a_pod_that_is_to_end_has_ended_well() {
        let machine = machine();
        let job = json!({"restartPolicy": "Never", "hostNetwork": true, "containers": [{"name": "c"}]});
        machine.act("a", Some(&pod(&job)), Action::Start);
        let seen = machine.observe().remove("a").expect("it is there");
        assert_eq!((seen.stage, seen.addresses.len()), (Stage::Finished, 0));
        let ContainerState::Terminated(end) = &seen.containers[0].state else { panic!("{seen:?}") };
        assert_eq!(end.exit_code, 0);
    }
}
