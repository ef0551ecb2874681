//! The step from old ReplicaSets to the new one, rolling or at once.

use super::Round;
use super::sets::{HASH_LABEL, Set};
use crate::controllers::template::owner_reference;
use crate::controllers::{amount, hash};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use manifests::{Kind, ObjectKey};

impl Round<'_> {
    /// Makes the new set larger and the old ones smaller, as far as `maxSurge`
    /// and `maxUnavailable` allow now.
    pub(super) fn roll(&mut self) {
        self.ensure_new_set();
        if !self.size_new_set() {
            self.shrink_old_sets();
        }
    }

    /// Takes every old pod away, and only then makes the new ones.
    pub(super) fn recreate(&mut self) {
        self.refresh_new_set();
        for at in 0..self.old.len() {
            if self.old[at].is_wanted() {
                self.resize_old(at, 0);
            }
        }
        if self.old.iter().any(|set| set.unfinished > 0) {
            return;
        }
        self.ensure_new_set();
        self.size_new_set();
    }

    /// Brings revision, annotations and `minReadySeconds` of the new set to the Deployment's.
    pub(super) fn refresh_new_set(&mut self) {
        let revision = self.next_revision();
        let annotations = self.deployment.metadata.annotations.as_ref();
        let Some(new) = &mut self.new else { return };
        let before = new.revision();
        new.annotate(annotations, revision);
        // The deadline of a way back counts from here, not from when the set was new.
        let came_back = new.revision() != before;
        let min_ready = self.deployment.spec.min_ready_seconds;
        if new.replica_set.spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
            new.replica_set.spec.min_ready_seconds = min_ready;
        }
        let name = new.name().to_owned();
        self.tell_of_new_set("FoundNewReplicaSet", format!("Found new replica set \"{name}\""), came_back);
    }

    fn next_revision(&self) -> i64 {
        1 + self.old.iter().filter_map(Set::revision).max().unwrap_or(0)
    }

    fn ensure_new_set(&mut self) {
        if self.new.is_some() {
            return self.refresh_new_set();
        }
        let mut set = Set::to_make(self.make_replica_set());
        set.annotate(self.deployment.metadata.annotations.as_ref(), self.next_revision());
        let name = set.name().to_owned();
        self.new = Some(set);
        let size = self.roomy_size();
        self.resize_new(0);
        if size > 0 {
            self.resize_new(size);
        }
        self.tell_of_new_set("NewReplicaSetCreated", format!("Created new replica set \"{name}\""), true);
    }

    /// The ReplicaSet of the present template, under a name that no other has.
    fn make_replica_set(&mut self) -> ReplicaSet {
        let mut template = self.deployment.spec.template.clone();
        let (namespace, owner_name) = (self.owner.namespace(), self.owner.name());
        let mut collisions = self.status.collision_count.unwrap_or(0);
        let (name, hash) = loop {
            let hash = hash::of_template(&template, collisions);
            let name = format!("{owner_name}-{hash}");
            if self.state.get(&ObjectKey::new(Kind::ReplicaSet, namespace, &name)).is_none() {
                break (name, hash);
            }
            collisions += 1;
            self.status.collision_count = Some(collisions);
        };
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.deployment.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash);
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.into()),
                labels: Some(labels),
                owner_references: Some(vec![owner_reference(self.owner)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: self.deployment.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    /// Sizes the new set as far as there is room; true if that changed it.
    fn size_new_set(&mut self) -> bool {
        let Some(size) = self.new.as_ref().map(Set::size) else { return false };
        let wanted = if size > self.replicas() { self.replicas() } else { self.roomy_size() };
        let created = self.new.as_ref().is_some_and(|new| new.stored.is_none());
        self.resize_new(wanted);
        wanted != size && !created
    }

    /// The size to which the new set may grow.
    fn roomy_size(&self) -> i32 {
        let size = self.new.as_ref().map_or(0, Set::size);
        if !self.is_rolling() {
            return self.replicas();
        }
        let pods: i32 = self.sets().map(Set::room).sum();
        let room = self.replicas() + self.max_surge() - pods;
        size + room.min(self.replicas() - size).max(0)
    }

    /// Takes from the old sets what can be spared: first what serves nobody,
    /// then, oldest set first, what the new set's available pods replace.
    fn shrink_old_sets(&mut self) {
        let min_available = self.replicas() - self.max_unavailable();
        let sizes: i32 = self.sets().map(Set::size).sum();
        let not_yet = self.new.as_ref().map_or(0, |new| new.size() - new.serving());
        let mut spare = sizes - min_available - not_yet;
        for at in 0..self.old.len() {
            let unhealthy = self.old[at].size() - self.old[at].serving();
            let down = unhealthy.min(spare);
            if down > 0 {
                self.resize_old(at, self.old[at].size() - down);
                spare -= down;
            }
        }
        let serving: i32 = self.sets().map(Set::serving).sum();
        let mut spare = spare.min(serving - min_available);
        for at in 0..self.old.len() {
            let down = self.old[at].size().min(spare);
            if down > 0 {
                self.resize_old(at, self.old[at].size() - down);
                spare -= down;
            }
        }
    }

    /// Deletes the oldest ReplicaSets without pods beyond `revisionHistoryLimit`.
    pub(super) fn forget_old_sets(&mut self) {
        let limit = self.deployment.spec.revision_history_limit.unwrap_or(10);
        let too_many = self.old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let mut order: Vec<usize> = (0..self.old.len()).collect();
        order.sort_by_key(|at| (self.old[*at].revision(), self.old[*at].age_order()));
        for at in order.into_iter().take(too_many) {
            let set = &mut self.old[at];
            let counted = set.replica_set.status.as_ref().map_or(0, |status| status.replicas);
            set.forgotten = !set.is_wanted() && counted == 0 && set.unfinished == 0;
        }
    }

    /// `maxSurge` in pods; 0 unless rolling.
    pub(super) fn max_surge(&self) -> i32 {
        self.fences().0
    }

    /// `maxUnavailable` in pods, at most all; 0 unless rolling.
    pub(super) fn max_unavailable(&self) -> i32 {
        self.fences().1.min(self.replicas())
    }

    fn fences(&self) -> (i32, i32) {
        if !self.is_rolling() {
            return (0, 0);
        }
        let rolling =
            self.deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = amount::share(surge, self.replicas(), amount::Round::Up);
        let unavailable = amount::share(unavailable, self.replicas(), amount::Round::Down);
        // Both may round to nothing; without either a rollout could never take its first step.
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }
}
