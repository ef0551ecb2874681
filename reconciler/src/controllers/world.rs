//! A small world for the controllers' tests: a store, a clock, a node that runs
//! pods, and a collector of orphans, all driven by one seed.

mod cluster;
mod store;

pub(crate) use cluster::Silence;

use super::node::NodeRules;
use super::{
    Knowledge, NobodyListens, Outcome, PodNetworkRules, ServiceRules, cronjob, daemonset, deployment, job,
    pod, replicaset,
};
use crate::random::RandomSource;
use crate::scheduler::Ledger;
use crate::store::{State, Write};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};

/// Chance that a seed fixes.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

impl RandomSource for Dice {
    /// Source: splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How the model node treats pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// True for pods that run until they are asked to end.
    pub(crate) serve: bool,
    /// Of a hundred pods that come to an end by themselves, how many fail.
    pub(crate) fail_percent: usize,
}

/// What the model node saw happen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Uids of pods that succeeded, or failed, by themselves.
    pub(crate) succeeded: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
}

/// Everything, at one time.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    pub(crate) dice: Dice,
    pub(crate) habits: Habits,
    pub(crate) seen: Seen,
    /// The reasons of all notes of applied outcomes.
    pub(crate) notes: Vec<String>,
    /// When each key wants to be looked at again.
    wakes: BTreeMap<ObjectKey, Timestamp>,
    uids: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            state: State::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            dice: Dice::new(seed),
            habits: Habits { serve: true, fail_percent: 0 },
            seen: Seen::default(),
            notes: Vec::new(),
            wakes: BTreeMap::new(),
            uids: 0,
        }
    }

    /// Writes as a user would: creates, or replaces all but the status.
    pub(crate) fn put(&mut self, kind: Kind, value: serde_json::Value) -> ObjectKey {
        let mut object = Object::from_json(kind, value).unwrap();
        if kind.is_namespaced() {
            object.metadata_mut().namespace.get_or_insert_with(|| "default".into());
        }
        let key = object.key();
        let write = if let Some(stored) = self.state.get(&key) {
            let owned = stored.metadata().clone();
            object.metadata_mut().annotations = owned.annotations;
            Write::Update(object)
        } else {
            Write::Create(object)
        };
        self.apply(&[write]).unwrap();
        key
    }

    /// What the controller of `key` decides now.
    pub(crate) fn decide(&mut self, key: &ObjectKey) -> Outcome {
        let ledger = &mut Ledger::default();
        let (heard, rules) = (&NobodyListens, NodeRules::default());
        let mut context = Knowledge {
            now: self.now,
            random: &mut self.dice,
            ledger,
            heard,
            rules,
            services: ServiceRules::NONE,
            pods: PodNetworkRules::default(),
        };
        #[allow(clippy::wildcard_enum_match_arm, reason = "only five kinds have a controller here")]
        match key.kind {
            Kind::ReplicaSet => replicaset::reconcile(&self.state, key, &mut context),
            Kind::Deployment => deployment::reconcile(&self.state, key, &mut context),
            Kind::DaemonSet => daemonset::reconcile(&self.state, key, &mut context),
            Kind::Job => job::reconcile(&self.state, key, &mut context),
            Kind::CronJob => cronjob::reconcile(&self.state, key, &mut context),
            _ => Outcome::default(),
        }
    }

    /// One look at `key`, written; true if there was something to write.
    pub(crate) fn reconcile(&mut self, key: &ObjectKey) -> bool {
        let outcome = self.decide(key);
        self.commit(key, outcome)
    }

    fn commit(&mut self, key: &ObjectKey, outcome: Outcome) -> bool {
        self.apply(&outcome.writes).unwrap_or_else(|error| panic!("{key}: {error}: {outcome:#?}"));
        self.notes.extend(outcome.notes.iter().map(|note| note.reason.to_owned()));
        self.wakes.remove(key);
        if let Some(at) = outcome.wake_at {
            assert!(at > self.now, "{key} asks to be woken at {at}, which is not after {}", self.now);
            self.wakes.insert(key.clone(), at);
        }
        !outcome.writes.is_empty()
    }

    /// Every object that has a controller here.
    pub(crate) fn controlled(&self) -> Vec<ObjectKey> {
        let kinds = [Kind::CronJob, Kind::Job, Kind::Deployment, Kind::DaemonSet, Kind::ReplicaSet];
        kinds.into_iter().flat_map(|kind| self.state.list(kind, None)).map(|object| object.key()).collect()
    }

    /// Every pod.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let pods = self.state.list(Kind::Pod, None);
        pods.filter_map(|object| <&Pod>::try_from(object.as_ref()).ok().cloned()).collect()
    }

    /// The object at `key`, as JSON.
    pub(crate) fn json(&self, key: &ObjectKey) -> serde_json::Value {
        self.state.get(key).unwrap().to_json().unwrap()
    }

    /// Something happens: a controller looks, on the present state or with a
    /// decision from an old one; a pod comes a step further; orphans go; time passes.
    pub(crate) fn step(&mut self, old: &State) {
        match self.dice.below(20) {
            0..=7 => {
                let keys = self.controlled();
                if !keys.is_empty() {
                    let at = self.dice.below(keys.len());
                    self.reconcile(&keys[at]);
                }
            }
            8 => self.act_on(old),
            9..=16 => self.node_step(),
            17 => self.collect_orphans(),
            _ => {
                let seconds = i64::try_from(self.dice.below(20)).unwrap();
                self.now += SignedDuration::from_secs(seconds);
            }
        }
    }

    /// A decision that was taken on an older state reaches the store only now.
    fn act_on(&mut self, old: &State) {
        let keys = self.controlled();
        if keys.is_empty() {
            return;
        }
        let key = keys[self.dice.below(keys.len())].clone();
        let present = std::mem::replace(&mut self.state, old.clone());
        let outcome = self.decide(&key);
        self.state = present;
        let _refused_or_not = self.apply(&outcome.writes);
    }

    fn node_step(&mut self) {
        let pods = self.pods();
        if pods.is_empty() {
            return;
        }
        let pod = pods[self.dice.below(pods.len())].clone();
        self.advance(&pod);
    }

    /// One step in the life of `pod`; false if it has nothing to do.
    fn advance(&mut self, pod: &Pod) -> bool {
        let object: Object = pod.clone().into();
        let mut next = pod.clone();
        if pod::is_deleted(pod) {
            let write = Write::Remove { key: object.key(), uid: Some(object.uid().into()) };
            self.apply(&[write]).unwrap();
        } else if pod::node_name(pod).is_empty() {
            next.spec.get_or_insert_default().node_name = Some("node".into());
            self.apply(&[Write::Update(next.into())]).unwrap();
        } else if pod::is_finished(pod) || (pod::is_ready(pod) && self.habits.serve) {
            return false;
        } else if pod::is_ready(pod) {
            let fails = self.dice.percent(self.habits.fail_percent);
            self.end(&mut next, fails);
        } else {
            let status = next.status.get_or_insert_default();
            status.phase = Some("Running".into());
            status.conditions = Some(vec![ready(true, self.now)]);
            self.apply(&[Write::UpdateStatus(next.into())]).unwrap();
        }
        true
    }

    /// The pod comes to its end by itself.
    pub(crate) fn end(&mut self, pod: &mut Pod, fails: bool) {
        let terminated = ContainerStateTerminated {
            exit_code: i32::from(fails),
            finished_at: Some(Time(self.now)),
            ..ContainerStateTerminated::default()
        };
        let state = ContainerState { terminated: Some(terminated), ..ContainerState::default() };
        let status = pod.status.get_or_insert_default();
        status.phase = Some(if fails { "Failed" } else { "Succeeded" }.into());
        status.conditions = Some(vec![ready(false, self.now)]);
        let container =
            ContainerStatus { name: "main".into(), state: Some(state), ..ContainerStatus::default() };
        status.container_statuses = Some(vec![container]);
        let uid = pod.metadata.uid.clone().unwrap();
        let seen = if fails { &mut self.seen.failed } else { &mut self.seen.succeeded };
        seen.insert(uid);
        self.apply(&[Write::UpdateStatus(pod.clone().into())]).unwrap();
    }

    /// Takes away what had an owner that is gone.
    fn collect_orphans(&mut self) {
        let alive: BTreeSet<String> = self.state.iter().map(|(_, object)| object.uid().to_owned()).collect();
        let lost = |object: &Object| object.controller().is_some_and(|owner| !alive.contains(&owner.uid));
        let orphans: Vec<_> =
            self.state.iter().filter(|(_, object)| lost(object)).map(|(key, _)| key.clone()).collect();
        for key in orphans {
            self.apply(&[Write::Delete { key, uid: None, grace_seconds: None }]).unwrap();
        }
    }

    /// Lets everything happen that is under way, without time passing; true if anything did.
    pub(crate) fn rest(&mut self) -> bool {
        let mut ever = false;
        for _ in 0..10_000 {
            let mut busy = false;
            for key in self.controlled() {
                busy |= self.reconcile(&key);
            }
            for pod in self.pods() {
                busy |= self.advance(&pod);
            }
            self.collect_orphans();
            if !busy {
                return ever;
            }
            ever = true;
        }
        panic!("no rest after 10000 rounds at {}", self.now);
    }

    /// Rests, and lets time pass to each moment that a controller waits for, until `until`.
    pub(crate) fn run_until(&mut self, until: Timestamp) {
        loop {
            self.rest();
            let keys = self.controlled();
            self.wakes.retain(|key, _| keys.contains(key));
            match self.wakes.values().min() {
                Some(at) if *at <= until => self.now = *at,
                Some(_) | None => break,
            }
        }
        self.now = until;
        self.rest();
    }

    pub(crate) fn run_for(&mut self, seconds: i64) {
        self.run_until(self.now + SignedDuration::from_secs(seconds));
    }

    /// A second look at everything must find nothing to write.
    pub(crate) fn assert_silent_but_notes(&mut self) {
        for key in self.controlled() {
            let outcome = self.decide(&key);
            assert!(outcome.writes.is_empty(), "{key} goes on: {outcome:#?}");
        }
    }

    /// A second look at everything must find nothing to do.
    pub(crate) fn assert_silent(&mut self) {
        for key in self.controlled() {
            let outcome = self.decide(&key);
            assert!(outcome.writes.is_empty() && outcome.notes.is_empty(), "{key} goes on: {outcome:#?}");
        }
    }
}

/// The pod's `Ready` condition, since `at`.
pub(crate) fn ready(is: bool, at: Timestamp) -> PodCondition {
    PodCondition {
        type_: "Ready".into(),
        status: if is { "True" } else { "False" }.into(),
        last_transition_time: Some(Time(at)),
        ..PodCondition::default()
    }
}
