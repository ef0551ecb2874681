//! The node loop: makes the pods that are bound to this node real, and reports
//! what became of them.

mod amount;
mod conditions;
pub(crate) mod config_volumes;
pub(crate) mod ending;
pub(crate) mod ephemeral;
pub(crate) mod hardware;
pub(crate) mod host_ports;
pub(crate) mod image_gc;
mod memory;
mod notes;
mod order;
pub(crate) mod pressure;
mod pull;
mod reconcile;
pub(crate) mod registration;
pub(crate) mod resize;
pub(crate) mod resources;
mod runtime_class;
mod service_account;
pub(crate) mod shutdown;
pub(crate) mod storage;
mod work;

use crate::metrics::Metrics;
use ending::{Ending, Endings};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object, ObjectKey};
use memory::Memory;
use netstack::Network;
use reconcile::{Action, Wanted};
use reconciler::controllers::Note;
use reconciler::events::Recorder;
use reconciler::store::{Leadership, Store, Write, WriteError};
use runtime::image::registry::Puller;
use runtime::plan::NodeFacts;
use runtime::pods::Runtime;
use runtime::state::{PodState, Stage};
use runtime::status::{Problem, pod_status};
use runtime::token::TokenKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use work::Done;

/// A full look, though nothing seems to have changed, this often.
const RESYNC: Duration = Duration::from_secs(60);

/// What could not be stored is tried again after this.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// The reason of a pod that is not started because others come first.
const WAITING: &str = "WaitingForOthers";

/// What this node does its work with.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Runtime,
    pub(crate) network: Network,
    pub(crate) images: Arc<Puller>,
    pub(crate) facts: NodeFacts,
    /// Signs the tokens of pods.
    pub(crate) tokens: TokenKey,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Pods that the node itself ends.
    pub(crate) endings: Endings,
    /// True while the machine goes down: nothing is started then.
    pub(crate) closing: watch::Sender<bool>,
}

type Pods = BTreeMap<String, Arc<Object>>;

/// Runs until `stop`; `retry` says that configuration changed. What runs on the machine then goes on running.
///
/// # Errors
/// If the store or the runtime ended under it.
pub(crate) async fn run(node: Arc<Node>, retry: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut memory = Memory::new(node.observed());
    let mut work: JoinSet<Done> = JoinSet::new();
    let (mut stored, mut supervised) = (node.store.changes(), node.runtime.changes());
    let (mut ended, mut closing) = (node.endings.changes(), node.closing.subscribe());
    let mut led = node.store.cluster().leaderships();
    loop {
        stored.borrow_and_update();
        supervised.borrow_and_update();
        ended.borrow_and_update();
        closing.borrow_and_update();
        led.borrow_and_update();
        let wake = node.look(&mut memory, &mut work).await;
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = stored.changed() => changed?,
            changed = supervised.changed() => changed?,
            changed = ended.changed() => changed?,
            changed = closing.changed() => changed?,
            changed = led.changed() => changed?,
            () = retry.notified() => memory.retry_configuration(),
            Some(done) = work.join_next() => memory.done(done?),
            () = tokio::time::sleep(wake) => {}
        }
    }
}

impl Node {
    /// One look at everything: reports, decides, begins work. Says how long
    /// nothing needs to be looked at if nothing changes.
    async fn look(self: &Arc<Self>, memory: &mut Memory, work: &mut JoinSet<Done>) -> Duration {
        let timer = self.metrics.node_pass.start_timer();
        let now = Timestamp::now();
        let pods = self.pods();
        let observed = self.observed();
        memory.keep_only(&pods, &observed);
        self.endings.keep_only(|uid| pods.contains_key(uid));
        memory.note_endings(&pods, &self.endings.all());
        self.note_changes(memory, &pods, &observed);
        let mut writes = self.report(memory, &pods, &observed, now);
        let wanted = pods.iter().map(|(uid, pod)| (uid.clone(), wanted(pod, memory.ending(uid)))).collect();
        let closing = *self.closing.borrow();
        let seen = observed.iter().map(|(uid, state)| (uid.clone(), memory.seen(uid, state))).collect();
        let actions = reconcile::reconcile(&wanted, &seen, &memory.busy, now);
        let mut wake = RESYNC;
        for (uid, action) in actions {
            if closing && action == Action::Start {
                continue;
            }
            // A pod that never came to a sandbox has volumes and an address all the same.
            let unmade = action == Action::Forget && memory.is_prepared(&uid);
            let action = if unmade { Action::Remove } else { action };
            match action {
                Action::Start if self.holds_back(memory, &uid, (&pods, &observed), &mut wake) => {}
                Action::WaitUntil(at) => {
                    wake = wake.min(Duration::try_from(at.duration_since(now)).unwrap_or_default())
                }
                Action::Forget => writes.extend(pods.get(&uid).map(|pod| forget(pod))),
                Action::Fail => writes.extend(pods.get(&uid).and_then(|pod| cut_short(pod))),
                Action::Start | Action::Stop { .. } | Action::Release | Action::Remove => {
                    memory.begin(&uid, action);
                    let (node, pod) = (Arc::clone(self), pods.get(&uid).cloned());
                    work.spawn(async move { work::perform(&node, uid, pod, action).await });
                }
            }
        }
        self.gauge(&observed);
        timer.observe_duration();
        if !self.write(writes).await {
            memory.report_again();
            return wake.min(REPORT_AGAIN);
        }
        wake
    }

    /// The pods on the machine, by uid, that are the store's business: those that clients of the
    /// CRI asked for are not.
    fn observed(&self) -> BTreeMap<String, PodState> {
        let mut observed = self.runtime.observe();
        observed.retain(|_, state| !state.by_request);
        observed
    }

    /// True if the pod has to wait for others; whoever looks at it is told so once.
    fn holds_back(
        &self,
        memory: &mut Memory,
        uid: &str,
        (pods, observed): (&Pods, &BTreeMap<String, PodState>),
        wake: &mut Duration,
    ) -> bool {
        let Some((object, pod)) = pods.get(uid).and_then(|object| Some((object, pod_of(object)?))) else {
            return false;
        };
        let find = |key: &ObjectKey| self.store.get(key);
        let is_down = |workload: &ObjectKey| order::is_down(workload, pods, observed, find);
        let Some(message) = order::waits_for(pod, find, is_down) else { return false };
        let problem = Problem::Pod { reason: WAITING.to_owned(), message: message.clone() };
        if memory.hold(uid, problem) {
            self.note(&object.key(), false, WAITING, message);
            *wake = Duration::ZERO;
        }
        true
    }

    /// The pods bound to this node, by uid.
    fn pods(&self) -> Pods {
        let (pods, _) = self.store.list(Kind::Pod, None);
        let mine = |object: &Arc<Object>| pod_of(object).is_some_and(|pod| self.is_mine(pod));
        pods.into_iter().filter(mine).map(|object| (object.uid().to_owned(), object)).collect()
    }

    fn is_mine(&self, pod: &Pod) -> bool {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        bound == Some(self.facts.node_name.as_str())
    }

    fn note_changes(&self, memory: &mut Memory, pods: &Pods, observed: &BTreeMap<String, PodState>) {
        for (uid, state) in observed {
            let before = memory.last_state(uid);
            if before == Some(state) {
                continue;
            }
            if let Some(pod) = pods.get(uid) {
                for note in notes::notes(&pod.key(), before, state) {
                    self.recorder.record(note);
                }
            }
            if memory.started_now(uid, state)
                && let Some(seconds) = memory.seconds_since_first_seen(uid)
            {
                self.metrics.pod_start.observe(seconds);
            }
        }
    }

    /// The status writes that are due.
    fn report(
        &self,
        memory: &mut Memory,
        pods: &Pods,
        observed: &BTreeMap<String, PodState>,
        now: Timestamp,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        for (uid, object) in pods {
            let state = observed.get(uid);
            if !memory.needs_report(uid, object.resource_version(), state) {
                continue;
            }
            let Some(pod) = pod_of(object) else { continue };
            let problem = memory.last_word(uid, state);
            let problem = problem.as_ref().or_else(|| memory.problem(uid));
            let mut status = pod_status(pod, state, problem, &self.facts.host_ips, now);
            if let Some(ending) = memory.ending(uid) {
                ending.mark(&mut status, now);
            }
            memory.reported(uid, object.resource_version(), state);
            if pod.status.as_ref() != Some(&status) {
                let mut changed = pod.clone();
                changed.status = Some(status);
                changed.metadata.resource_version = None;
                writes.push(Write::UpdateStatus(Object::from(changed)));
            }
        }
        writes
    }

    /// Writes all at once; if one of them cannot be, the others still are. False if the
    /// store did not take one that it should have.
    async fn write(&self, writes: Vec<Write>) -> bool {
        if writes.is_empty() {
            return true;
        }
        if self.store.cluster().leadership() == Leadership::Nobody {
            // Nobody takes it now. Pods need no leader to run.
            return false;
        }
        match self.store.write(writes.clone()).await {
            Ok(_) => return true,
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "statuses of pods were not stored");
                return false;
            }
        }
        let mut taken = true;
        for write in writes {
            match self.store.write(vec![write]).await {
                // The pod went away, or somebody was faster: the next look sees it.
                Ok(_) | Err(WriteError::NotFound(_) | WriteError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a pod's status was not stored");
                    taken = false;
                }
            }
        }
        taken
    }

    fn gauge(&self, observed: &BTreeMap<String, PodState>) {
        let (mut pods, mut running, mut waiting, mut exited) = (0u32, 0u32, 0u32, 0u32);
        for state in observed.values().filter(|state| state.stage != Stage::Lost) {
            let before = running;
            for container in &state.containers {
                match container.state {
                    runtime::state::ContainerState::Running { .. } => running += 1,
                    runtime::state::ContainerState::Waiting { .. } => waiting += 1,
                    runtime::state::ContainerState::Terminated(_) => exited += 1,
                }
            }
            pods += u32::from(running > before);
        }
        self.metrics.running_pods.set(f64::from(pods));
        for (state, count) in [("running", running), ("created", waiting), ("exited", exited)] {
            self.metrics.containers.with_label_values(&[state]).set(f64::from(count));
        }
    }

    /// Nothing is left on the machine of pods that neither the store nor the runtime
    /// knows. What cannot be removed is logged, and tried again at the next start.
    pub(crate) async fn sweep(&self) {
        let mut live: BTreeSet<String> = self.runtime.observe().into_keys().collect();
        live.extend(self.pods().into_keys());
        match self.network.sweep(&live).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "links of pods that are gone were removed"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot sweep the pod network")
            }
        }
    }

    /// The pod will be ended, and is told why.
    pub(crate) fn evict(&self, pod: &Object, ending: Ending) {
        let message = ending.message.trim_end().to_owned();
        if self.endings.add(pod.uid(), ending) {
            tracing::warn!(pod = %pod.key(), message, "pod is evicted");
            self.note(&pod.key(), true, "Evicted", message);
        }
    }

    /// The pressures that the Node object tells of, as its conditions are called.
    pub(crate) fn pressures(&self) -> Vec<&'static str> {
        conditions::told(self).into_iter().map(conditions::name).collect()
    }

    /// Records an event about a pod.
    fn note(&self, about: &ObjectKey, warning: bool, reason: &'static str, message: String) {
        self.recorder.record(Note { about: about.clone(), warning, reason, message });
    }
}

fn pod_of(object: &Object) -> Option<&Pod> {
    object.try_into().ok()
}

fn wanted(object: &Object, ending: Option<&Ending>) -> Wanted {
    let Some(pod) = pod_of(object) else {
        return Wanted { deleting: None, terminal: true, never_again: true, ending: None };
    };
    let grace = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u32::try_from(seconds).ok());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    Wanted {
        deleting: pod.metadata.deletion_timestamp.as_ref().map(|_| grace.unwrap_or(30)),
        terminal: matches!(phase, Some("Succeeded" | "Failed")),
        never_again: policy == Some("Never"),
        ending: ending.map(|ending| ending.grace_seconds),
    }
}

fn forget(pod: &Object) -> Write {
    Write::Remove { key: pod.key(), uid: Some(pod.uid().to_owned()) }
}

/// The pod's supervisor is lost, and its policy is not to run it again.
fn cut_short(object: &Object) -> Option<Write> {
    let mut pod = pod_of(object)?.clone();
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    status.reason = Some("NodeLost".into());
    status.message = Some("the pod's supervisor ended unexpectedly, and restartPolicy is Never".into());
    pod.metadata.resource_version = None;
    Some(Write::UpdateStatus(Object::from(pod)))
}
