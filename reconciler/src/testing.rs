//! What tests of controllers share: a store of their own, and objects in short.

use crate::controllers::node::NodeRules;
use crate::controllers::{Knowledge, NobodyListens, Note, Outcome, PodNetworkRules, ServiceRules};
use crate::random::OsRandom;
use crate::scheduler::Ledger;
use crate::store::{State, Store, Write};
use jiff::Timestamp;
use manifests::revision::{COMMIT_ANNOTATION, Revision, SOURCE_ANNOTATION};
use manifests::{Kind, Object, ObjectKey};
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;

/// A controller's decision.
pub(crate) type Reconcile = fn(&State, &ObjectKey, &mut Knowledge<'_>) -> Outcome;

/// A store that goes away with it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: Arc<Store>,
    pub(crate) now: Timestamp,
    services: ServiceRules,
    pods: PodNetworkRules,
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (services, pods) = (ServiceRules::default(), PodNetworkRules::default());
        Self { store, now: Timestamp::now(), services, pods, runtime, _dir: dir }
    }

    /// Gives services their addresses.
    pub(crate) fn with_services(self, services: ServiceRules) -> Self {
        Self { services, ..self }
    }

    /// Gives nodes blocks of the pods' networks.
    pub(crate) fn with_pod_networks(self, pods: PodNetworkRules) -> Self {
        Self { pods, ..self }
    }

    pub(crate) fn write(&self, batch: Vec<Write>) -> Vec<Arc<Object>> {
        self.runtime.block_on(self.store.write(batch)).unwrap()
    }

    pub(crate) fn create(&self, object: Object) -> Arc<Object> {
        self.write(vec![Write::Create(object)]).remove(0)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.store.get(key)
    }

    /// What `reconcile` decides about `key` now.
    pub(crate) fn decide(&self, reconcile: Reconcile, key: &ObjectKey) -> Outcome {
        let mut random = OsRandom::new();
        self.store.read(|state| {
            let ledger = &mut Ledger::of(state);
            let (heard, rules) = (&NobodyListens, NodeRules::default());
            let knowledge = &mut Knowledge {
                now: self.now,
                random: &mut random,
                ledger,
                heard,
                rules,
                services: &self.services,
                pods: self.pods,
            };
            reconcile(state, key, knowledge)
        })
    }

    /// Decides and writes until there is nothing to write; returns the notes on the way.
    pub(crate) fn settle(&self, reconcile: Reconcile, key: &ObjectKey) -> Vec<Note> {
        let mut notes = Vec::new();
        for _ in 0..10 {
            let outcome = self.decide(reconcile, key);
            notes.extend(outcome.notes);
            if outcome.writes.is_empty() {
                return notes;
            }
            self.write(outcome.writes);
        }
        panic!("{key} does not converge");
    }
}

/// The object of `kind` that `value` says, named `name` in `default` if it has a namespace.
pub(crate) fn object(kind: Kind, name: &str, mut value: Value) -> Object {
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.as_str().into();
    value["metadata"]["name"] = name.into();
    if kind.is_namespaced() && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "default".into();
    }
    Object::from_json(kind, value).unwrap()
}

pub(crate) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, if kind.is_namespaced() { "default" } else { "" }, name)
}

/// The Revision of `source` at `commit`, with `objects` as the sync would leave them.
pub(crate) fn revision(source: &str, commit: &str, mut objects: Vec<Object>) -> Object {
    objects.sort_by_key(Object::key);
    let stamped = objects.into_iter().map(|mut object| {
        let annotations = object.metadata_mut().annotations.get_or_insert_default();
        annotations.insert(SOURCE_ANNOTATION.into(), source.into());
        annotations.entry(COMMIT_ANNOTATION.into()).or_insert_with(|| commit.into());
        object.to_json().unwrap()
    });
    let mut revision = Revision::default();
    revision.metadata.name = Some(source.into());
    revision.spec.commit = commit.into();
    revision.spec.objects = stamped.collect();
    revision.into()
}

pub(crate) fn config_map(name: &str, value: &str) -> Object {
    object(Kind::ConfigMap, name, json!({"data": {"k": value}}))
}

pub(crate) fn pod(name: &str) -> Object {
    object(Kind::Pod, name, json!({"spec": {"containers": [{"name": "c", "image": "host:"}]}}))
}

/// A node with room for many pods.
pub(crate) fn node(name: &str) -> Object {
    node_with(name, json!({}))
}

/// The node that `value` says, with room for many pods if that says nothing of it.
pub(crate) fn node_with(name: &str, mut value: Value) -> Object {
    if value["status"]["allocatable"].is_null() {
        value["status"]["allocatable"] = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    }
    object(Kind::Node, name, value)
}
