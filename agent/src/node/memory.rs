//! What the node loop remembers between two looks. All of it may be lost: a
//! new agent begins with what the runtime shows.

use super::ending::Ending;
use super::reconcile::{Action, Busy, Seen};
use super::work::{Done, Failure, words};
use super::{Pods, pod_of};
use jiff::{SignedDuration, Timestamp};
use runtime::state::{ContainerState, PodState, Stage};
use runtime::status::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// First wait after a failed start; doubles up to [`MAX_BACK_OFF`].
const FIRST_BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
const MAX_BACK_OFF: SignedDuration = SignedDuration::from_secs(300);

#[derive(Debug, Default)]
struct Entry {
    first_seen: Option<Instant>,
    failures: u32,
    problem: Option<Problem>,
    stop_asked: Option<u32>,
    released: bool,
    started: bool,
    /// A start was tried: volumes or an address may be there, though no sandbox is.
    prepared: bool,
    reported: Option<Report>,
    ending: Option<Ending>,
}

/// What a status was made from.
#[derive(Debug, PartialEq)]
struct Report {
    version: u64,
    state: Option<Arc<PodState>>,
    problem: Option<Problem>,
    ending: Option<Ending>,
    is_over: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) busy: BTreeMap<String, Busy>,
    entries: BTreeMap<String, Entry>,
    doing: BTreeMap<String, Action>,
    last: BTreeMap<String, Arc<PodState>>,
}

impl Memory {
    /// Knows what runs already, so that it is not told as news.
    pub(super) fn new(running: BTreeMap<String, Arc<PodState>>) -> Self {
        let started = |uid: &String| (uid.clone(), Entry { started: true, ..Entry::default() });
        let entries = running.keys().map(started).collect();
        Self { busy: BTreeMap::new(), entries, doing: BTreeMap::new(), last: running }
    }

    /// Forgets pods that are neither wanted nor there.
    pub(super) fn keep_only(&mut self, pods: &Pods, observed: &BTreeMap<String, Arc<PodState>>) {
        let known: BTreeSet<&String> = pods.keys().chain(observed.keys()).chain(self.doing.keys()).collect();
        let gone: Vec<String> = self.entries.keys().filter(|uid| !known.contains(uid)).cloned().collect();
        for uid in gone {
            self.entries.remove(&uid);
            self.busy.remove(&uid);
            self.last.remove(&uid);
        }
        for uid in pods.keys() {
            let entry = self.entries.entry(uid.clone()).or_default();
            entry.first_seen.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn seen(&self, uid: &str, state: &PodState) -> Seen {
        let entry = self.entries.get(uid);
        Seen {
            stage: state.stage,
            stop_asked: entry.and_then(|entry| entry.stop_asked),
            released: entry.is_some_and(|entry| entry.released),
        }
    }

    pub(super) fn last_state(&self, uid: &str) -> Option<&Arc<PodState>> {
        self.last.get(uid)
    }

    /// True if the machine may hold something of the pod, though it has no sandbox.
    pub(super) fn is_prepared(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.prepared)
    }

    pub(super) fn problem(&self, uid: &str) -> Option<&Problem> {
        self.entries.get(uid)?.problem.as_ref()
    }

    /// True once, when all containers of the pod run for the first time.
    pub(super) fn started_now(&mut self, uid: &str, state: &PodState) -> bool {
        let running = |c: &runtime::state::ContainerStatus| matches!(c.state, ContainerState::Running { .. });
        let entry = self.entries.entry(uid.to_owned()).or_default();
        let now = !entry.started && state.containers.iter().all(running);
        entry.started |= now;
        now
    }

    pub(super) fn seconds_since_first_seen(&self, uid: &str) -> Option<f64> {
        Some(self.entries.get(uid)?.first_seen?.elapsed().as_secs_f64())
    }

    /// False if the pod and its state are what was reported last.
    pub(super) fn needs_report(&self, uid: &str, version: u64, state: Option<&Arc<PodState>>) -> bool {
        let Some(entry) = self.entries.get(uid) else { return true };
        let Some(known) = &entry.reported else { return true };
        known.version != version
            || !is_same(known.state.as_ref(), state)
            || known.problem != entry.problem
            || known.ending != entry.ending
            || known.is_over != self.is_over(uid, state)
    }

    /// True if nothing of the pod runs, nor is about to.
    fn is_over(&self, uid: &str, state: Option<&Arc<PodState>>) -> bool {
        match state.map(|state| state.stage) {
            Some(Stage::Finished) => true,
            Some(Stage::Created | Stage::Started | Stage::Stopping) => false,
            // A start may be under way.
            Some(Stage::Lost) | None => self.busy.get(uid) != Some(&Busy::Working),
        }
    }

    /// What the status says of a pod that was ended by its node, once it is over.
    pub(super) fn last_word(&self, uid: &str, state: Option<&Arc<PodState>>) -> Option<Problem> {
        self.ending(uid).filter(|_| self.is_over(uid, state)).map(Ending::problem)
    }

    /// Why the node ends the pod, if it does.
    pub(super) fn ending(&self, uid: &str) -> Option<&Ending> {
        self.entries.get(uid)?.ending.as_ref()
    }

    /// Pods that are to be ended: by what was decided now, or by an agent before this one.
    pub(super) fn note_endings(&mut self, pods: &Pods, endings: &BTreeMap<String, Ending>) {
        for (uid, object) in pods {
            let Some(entry) = self.entries.get_mut(uid).filter(|entry| entry.ending.is_none()) else {
                continue;
            };
            entry.ending = endings.get(uid).cloned().or_else(|| Ending::read(pod_of(object)?));
        }
    }

    pub(super) fn reported(&mut self, uid: &str, version: u64, state: Option<&Arc<PodState>>) {
        let is_over = self.is_over(uid, state);
        let entry = self.entries.entry(uid.to_owned()).or_default();
        entry.reported = Some(Report {
            version,
            state: state.cloned(),
            problem: entry.problem.clone(),
            ending: entry.ending.clone(),
            is_over,
        });
        match state {
            Some(state) => drop(self.last.insert(uid.to_owned(), Arc::clone(state))),
            None => drop(self.last.remove(uid)),
        }
    }

    /// What was reported may not have been taken: at the next look, all is reported again.
    pub(super) fn report_again(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.reported = None);
    }

    /// The pod is not started for now; true if that, or why, is new.
    pub(super) fn hold(&mut self, uid: &str, problem: Problem) -> bool {
        let entry = self.entries.entry(uid.to_owned()).or_default();
        let is_new = entry.problem.as_ref() != Some(&problem);
        entry.problem = Some(problem);
        is_new
    }

    /// Work on a pod begins.
    pub(super) fn begin(&mut self, uid: &str, action: Action) {
        let entry = self.entries.entry(uid.to_owned()).or_default();
        match action {
            Action::Start => entry.prepared = true,
            // Once is enough: what it cannot remove, the next agent's start will.
            Action::Remove => entry.prepared = false,
            Action::Stop { .. } | Action::Release | Action::Forget | Action::Fail | Action::WaitUntil(_) => {}
        }
        self.busy.insert(uid.to_owned(), Busy::Working);
        self.doing.insert(uid.to_owned(), action);
    }

    /// Work on a pod ended.
    pub(super) fn done(&mut self, done: Done) {
        let Some(action) = self.doing.remove(&done.uid) else { return };
        self.busy.remove(&done.uid);
        let entry = self.entries.entry(done.uid.clone()).or_default();
        match done.failure {
            None => entry.succeeded(action),
            Some(failure) => {
                let wait = entry.failed(failure);
                self.busy.insert(done.uid, Busy::RetryAt(Timestamp::now() + wait));
            }
        }
    }

    /// A ConfigMap or Secret changed: pods that waited for one are tried at once.
    pub(super) fn retry_configuration(&mut self) {
        let entries = &self.entries;
        let waits = |uid: &String| {
            let problem = entries.get(uid).and_then(|entry| entry.problem.as_ref());
            problem.is_some_and(|problem| {
                matches!(words(problem).0, "CreateContainerConfigError" | "ContainerCreating")
            })
        };
        self.busy.retain(|uid, busy| *busy == Busy::Working || !waits(uid));
    }
}

/// Most often they are one and the same.
pub(super) fn is_same(one: Option<&Arc<PodState>>, other: Option<&Arc<PodState>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl Entry {
    fn succeeded(&mut self, action: Action) {
        match action {
            Action::Start => {
                self.failures = 0;
                self.problem = None;
                self.released = false;
                self.stop_asked = None;
            }
            Action::Stop { grace_seconds } => self.stop_asked = Some(grace_seconds),
            Action::Release => self.released = true,
            Action::Remove | Action::Forget | Action::Fail | Action::WaitUntil(_) => {}
        }
    }

    /// Notes a failure; says how long to wait before the next try.
    fn failed(&mut self, failure: Failure) -> SignedDuration {
        let wait = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(5)).min(MAX_BACK_OFF);
        // The second time on, the kubelet calls it a back-off.
        let mut problem = failure.problem;
        if let Problem::Container { reason, message, .. } = &mut problem
            && self.failures > 0
            && reason == "ErrImagePull"
        {
            *reason = "ImagePullBackOff".into();
            *message = format!("Back-off pulling {message}");
        }
        self.failures += 1;
        self.problem = Some(problem);
        wait
    }
}
