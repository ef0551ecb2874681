//! Random batches against a model of a few lines, with reopening in between.

use super::*;
use manifests::k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Create(u8, u8),
    /// Object, value, and whether it is written from an old look.
    Update(u8, u8, bool),
    Delete(u8),
    Remove(u8),
}

#[derive(Debug, Clone)]
enum Action {
    Batch(Vec<Step>),
    Reopen,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: u8,
    version: u64,
    generation: i64,
    ending: bool,
}

type Model = BTreeMap<ObjectKey, Entry>;

/// Objects 0 to 2 are ConfigMaps, 3 to 5 are bound Pods.
fn key(id: u8) -> ObjectKey {
    let kind = if id < 3 { Kind::ConfigMap } else { Kind::Pod };
    ObjectKey::new(kind, "default", format!("o{id}"))
}

fn object(id: u8, value: u8) -> Object {
    let mut object: Object = if id < 3 {
        let data = BTreeMap::from([("v".into(), value.to_string())]);
        ConfigMap { data: Some(data), ..ConfigMap::default() }.into()
    } else {
        let spec =
            PodSpec { node_name: Some("n".into()), hostname: Some(value.to_string()), ..PodSpec::default() };
        Pod { spec: Some(spec), ..Pod::default() }.into()
    };
    object.metadata_mut().namespace = Some("default".into());
    object.metadata_mut().name = Some(key(id).name);
    object
}

fn value_of(object: &Object) -> u8 {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the test makes two kinds")]
    let text = match object {
        Object::ConfigMap(map) => map.data.as_ref().unwrap()["v"].clone(),
        Object::Pod(pod) => pod.spec.as_ref().unwrap().hostname.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    text.parse().unwrap()
}

/// What the store should do with `step`; false if it should refuse.
fn step_model(model: &mut Model, revision: &mut u64, step: &Step) -> bool {
    match *step {
        Step::Create(id, value) => {
            if model.contains_key(&key(id)) {
                return false;
            }
            *revision += 1;
            model.insert(key(id), Entry { value, version: *revision, generation: 1, ending: false });
        }
        Step::Update(id, value, stale) => {
            let Some(entry) = model.get_mut(&key(id)) else { return false };
            if stale {
                return false;
            }
            if entry.value != value {
                *revision += 1;
                *entry = Entry { value, version: *revision, generation: entry.generation + 1, ..*entry };
            }
        }
        Step::Delete(id) if id >= 3 => {
            let Some(entry) = model.get_mut(&key(id)) else { return false };
            if !entry.ending {
                *revision += 1;
                *entry = Entry { ending: true, version: *revision, ..*entry };
            }
        }
        Step::Delete(id) | Step::Remove(id) => {
            if model.remove(&key(id)).is_none() {
                return false;
            }
            *revision += 1;
        }
    }
    true
}

fn to_write(step: &Step) -> Write {
    match *step {
        Step::Create(id, value) => Write::Create(object(id, value)),
        Step::Update(id, value, stale) => {
            let mut object = object(id, value);
            if stale {
                object.metadata_mut().resource_version = Some("1000000".into());
            }
            Write::Update(object)
        }
        Step::Delete(id) => Write::Delete { key: key(id), uid: None, grace_seconds: Some(1 << 30) },
        Step::Remove(id) => Write::Remove { key: key(id), uid: None },
    }
}

fn seen(objects: impl IntoIterator<Item = Arc<Object>>) -> Model {
    let entry = |o: &Object| Entry {
        value: value_of(o),
        version: o.resource_version(),
        generation: o.metadata().generation.unwrap(),
        ending: o.metadata().deletion_timestamp.is_some(),
    };
    objects.into_iter().map(|o| (o.key(), entry(&o))).collect()
}

fn all(store: &Store) -> Model {
    seen(store.read(|state| state.iter().map(|(_, o)| Arc::clone(o)).collect::<Vec<_>>()))
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let step = prop_oneof![
        4 => (0..6u8, 0..3u8).prop_map(|(id, value)| Step::Create(id, value)),
        4 => (0..6u8, 0..3u8, prop::bool::weighted(0.1)).prop_map(|(i, v, s)| Step::Update(i, v, s)),
        1 => (0..6u8).prop_map(Step::Delete),
        1 => (0..6u8).prop_map(Step::Remove),
    ];
    let action = prop_oneof![
        8 => prop::collection::vec(step, 1..4).prop_map(Action::Batch),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

async fn check(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let dir = tempfile::TempDir::new().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (mut model, mut revision) = (Model::new(), 0);
    let mut watch = store.watch(None, 0).unwrap();
    let mut followed = BTreeMap::new();
    for action in actions {
        match action {
            Action::Reopen => {
                drop(store);
                store = Store::open(dir.path()).unwrap();
                watch = store.watch(None, revision).unwrap();
            }
            Action::Batch(steps) => {
                let (mut next, mut next_revision) = (model.clone(), revision);
                let accept = steps.iter().all(|step| step_model(&mut next, &mut next_revision, step));
                let answer = store.write(steps.iter().map(to_write).collect()).await;
                prop_assert_eq!(answer.is_ok(), accept, "{:?}: {:?}", steps, answer);
                if accept {
                    (model, revision) = (next, next_revision);
                }
            }
        }
        prop_assert_eq!(&all(&store), &model);
        prop_assert_eq!(store.read(State::revision), revision);
        while let Some(event) = watch.try_next().unwrap() {
            match event.change {
                Change::Added => prop_assert!(followed.insert(event.key(), event.object).is_none()),
                Change::Modified => prop_assert!(followed.insert(event.key(), event.object).is_some()),
                Change::Deleted => prop_assert!(followed.remove(&event.key()).is_some()),
            }
        }
        prop_assert_eq!(&seen(followed.values().cloned()), &model);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_and_its_watchers_agree_with_the_model(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(actions))?;
    }
}
