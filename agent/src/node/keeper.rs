//! Keeps one node's pods as the store wants them: the loop that looks, decides, has things done and
//! reports.

use super::bindings::Binding;
use super::ending::{Ending, Endings};
use super::hands::Hands;
use super::memory::{Memory, is_same};
use super::reconcile::{self, Action, Wanted};
use super::work::Done;
use super::{Pods, notes, order, pod_of};
use crate::metrics::Metrics;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use manifests::{Object, ObjectKey};
use reconciler::controllers::Note;
use reconciler::events::Recorder;
use reconciler::store::{Leadership, Store, Write, WriteError};
use runtime::state::{PodState, Stage};
use runtime::status::{Problem, pod_status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A full look, though nothing seems to have changed, this often.
const RESYNC: Duration = Duration::from_secs(60);

/// What could not be stored is tried again after this.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// The reason of a pod that is not started because others come first.
const WAITING: &str = "WaitingForOthers";

/// What is kept, by whose hands, and who is told.
#[derive(Debug)]
pub(crate) struct Keeper<H> {
    pub(crate) store: Arc<Store>,
    /// The node's pods, as far as they are bound.
    pub(crate) binding: Binding,
    /// The node's addresses, the main one first.
    pub(crate) host_ips: Vec<String>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) endings: Endings,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) hands: Arc<H>,
}

/// When to look again, though nothing of the node's own changes.
#[derive(Debug)]
struct Wake {
    after: Duration,
    /// A pod waits for what others do: any change may be what it waits for.
    at_any_change: bool,
}

impl<H: Hands> Keeper<H> {
    /// Runs until `stop`; `retry` says that configuration changed. What runs on the machine then
    /// goes on running.
    ///
    /// # Errors
    /// If the store or the hands ended under it.
    pub(crate) async fn run(mut self, retry: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut memory = Memory::new(self.hands.observe());
        let mut work: JoinSet<Done> = JoinSet::new();
        let (mut stored, mut supervised) = (self.store.changes(), self.hands.changes());
        let (mut ended, mut closing) = (self.endings.changes(), self.closing.subscribe());
        let mut led = self.store.cluster().leaderships();
        loop {
            stored.borrow_and_update();
            self.binding.seen();
            supervised.borrow_and_update();
            ended.borrow_and_update();
            closing.borrow_and_update();
            led.borrow_and_update();
            let wake = self.look(&mut memory, &mut work).await;
            // Every arm is cancel-safe, and none awaits in its body.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = self.binding.changed() => changed?,
                changed = stored.changed(), if wake.at_any_change => changed?,
                changed = supervised.changed() => changed?,
                changed = ended.changed() => changed?,
                changed = closing.changed() => changed?,
                changed = led.changed() => changed?,
                () = retry.notified() => memory.retry_configuration(),
                Some(done) = work.join_next() => memory.done(done?),
                () = tokio::time::sleep(wake.after) => {}
            }
        }
    }

    /// One look at everything: reports, decides, begins work. Says how long
    /// nothing needs to be looked at if nothing changes.
    async fn look(&self, memory: &mut Memory, work: &mut JoinSet<Done>) -> Wake {
        let timer = self.metrics.node_pass.start_timer();
        let now = Timestamp::now();
        let pods = self.binding.pods(&self.store);
        let observed = self.hands.observe();
        memory.keep_only(&pods, &observed);
        self.endings.keep_only(|uid| pods.contains_key(uid));
        memory.note_endings(&pods, &self.endings.all());
        self.note_changes(memory, &pods, &observed);
        let mut writes = self.report(memory, &pods, &observed, now);
        let wanted = pods.iter().map(|(uid, pod)| (uid.as_str(), wanted(pod, memory.ending(uid)))).collect();
        let closing = *self.closing.borrow();
        let seen = observed.iter().map(|(uid, state)| (uid.as_str(), memory.seen(uid, state))).collect();
        let actions = reconcile::reconcile(&wanted, &seen, &memory.busy, now);
        let mut wake = Wake { after: RESYNC, at_any_change: false };
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
                    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                    wake.after = wake.after.min(wait);
                }
                Action::Forget => writes.extend(pods.get(&uid).map(|pod| forget(pod))),
                Action::Fail => writes.extend(pods.get(&uid).and_then(|pod| cut_short(pod))),
                Action::Start | Action::Stop { .. } | Action::Release | Action::Remove => {
                    memory.begin(&uid, action);
                    let (hands, pod) = (Arc::clone(&self.hands), pods.get(&uid).cloned());
                    work.spawn(hands.perform(uid, pod, action));
                }
            }
        }
        self.gauge(&observed);
        timer.observe_duration();
        if !self.write(writes).await {
            memory.report_again();
            wake.after = wake.after.min(REPORT_AGAIN);
        }
        wake
    }

    /// True if the pod has to wait for others; whoever looks at it is told so once.
    fn holds_back(
        &self,
        memory: &mut Memory,
        uid: &str,
        (pods, observed): (&Pods, &BTreeMap<String, Arc<PodState>>),
        wake: &mut Wake,
    ) -> bool {
        let Some((object, pod)) = pods.get(uid).and_then(|object| Some((object, pod_of(object)?))) else {
            return false;
        };
        let find = |key: &ObjectKey| self.store.get(key);
        let is_down = |workload: &ObjectKey| order::is_down(workload, pods, observed, find);
        let Some(message) = order::waits_for(pod, find, is_down) else { return false };
        wake.at_any_change = true;
        let problem = Problem::Pod { reason: WAITING.to_owned(), message: message.clone() };
        if memory.hold(uid, problem) {
            self.recorder.record(Note { about: object.key(), warning: false, reason: WAITING, message });
            wake.after = Duration::ZERO;
        }
        true
    }

    fn note_changes(&self, memory: &mut Memory, pods: &Pods, observed: &BTreeMap<String, Arc<PodState>>) {
        for (uid, state) in observed {
            let before = memory.last_state(uid);
            if is_same(before, Some(state)) {
                continue;
            }
            if let Some(pod) = pods.get(uid) {
                for note in notes::notes(&pod.key(), before.map(AsRef::as_ref), state) {
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
        observed: &BTreeMap<String, Arc<PodState>>,
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
            let mut status = pod_status(pod, state.map(AsRef::as_ref), problem, &self.host_ips, now);
            if let Some(ending) = memory.ending(uid) {
                ending.mark(&mut status, now);
            }
            memory.reported(uid, object.resource_version(), state);
            if pod.status.as_ref() != Some(&status) {
                writes.push(Write::UpdateStatus(with_status(pod, status)));
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

    fn gauge(&self, observed: &BTreeMap<String, Arc<PodState>>) {
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
    let pod = pod_of(object)?;
    let mut status = pod.status.clone().unwrap_or_default();
    status.phase = Some("Failed".into());
    status.reason = Some("NodeLost".into());
    status.message = Some("the pod's supervisor ended unexpectedly, and restartPolicy is Never".into());
    Some(Write::UpdateStatus(with_status(pod, status)))
}

/// `pod` with another status, and no version that could be old.
fn with_status(pod: &Pod, status: PodStatus) -> Object {
    let mut changed = pod.clone();
    changed.status = Some(status);
    changed.metadata.resource_version = None;
    Object::from(changed)
}
