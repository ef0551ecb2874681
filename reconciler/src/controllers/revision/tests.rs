//! What becomes of a Revision's objects, one sentence per test.

use super::*;
use crate::store::Write;
use crate::testing::{Bench, config_map, key, object, pod, revision};
use manifests::revision::COMMIT_ANNOTATION;
use serde_json::json;
use std::collections::BTreeMap;

/// Agrees on `objects` for `source` at `commit` and lets the controller work until silence.
fn agree(bench: &Bench, source: &str, commit: &str, objects: Vec<Object>) -> Vec<crate::controllers::Note> {
    let object = revision(source, commit, objects);
    let key = object.key();
    if bench.get(&key).is_some() {
        bench.write(vec![Write::Update(object)]);
    } else {
        bench.create(object);
    }
    bench.settle(reconcile, &key)
}

fn look_at(bench: &Bench, key: &ObjectKey) {
    bench.settle(reconcile, key);
}

fn change(bench: &Bench, key: &ObjectKey, f: impl FnOnce(&mut Object)) {
    let mut object = (*bench.get(key).unwrap()).clone();
    f(&mut object);
    bench.write(vec![Write::Update(object)]);
}

fn data(bench: &Bench, name: &str) -> Option<BTreeMap<String, String>> {
    let object = bench.get(&key(Kind::ConfigMap, name))?;
    let Object::ConfigMap(map) = &*object else { panic!("{object:?}") };
    map.data.clone()
}

fn set_data(object: &mut Object, name: &str, value: &str) {
    let Object::ConfigMap(map) = object else { panic!("{object:?}") };
    map.data.get_or_insert_default().insert(name.into(), value.into());
}

#[test]
fn objects_are_created_in_one_batch_and_then_there_is_silence() {
    let bench = Bench::new();
    bench.create(revision("a", "c1", vec![config_map("one", "1"), pod("web")]));
    let outcome = bench.decide(reconcile, &key(Kind::Revision, "a"));
    assert_eq!(outcome.writes.len(), 2);
    bench.write(outcome.writes);
    let made = bench.get(&key(Kind::ConfigMap, "one")).unwrap();
    assert_eq!(made.annotation(SOURCE_ANNOTATION), Some("a"));
    assert_eq!(made.annotation(COMMIT_ANNOTATION), Some("c1"));
    let again = bench.decide(reconcile, &key(Kind::Revision, "a"));
    assert_eq!(again, Outcome::default());
}

#[test]
fn a_manual_change_is_put_back_also_what_was_only_added() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![config_map("one", "1")]);
    let one = key(Kind::ConfigMap, "one");
    change(&bench, &one, |object| set_data(object, "k", "changed"));
    look_at(&bench, &one);
    assert_eq!(data(&bench, "one").unwrap()["k"], "1");
    change(&bench, &one, |object| set_data(object, "more", "x"));
    change(&bench, &one, |object| {
        object.metadata_mut().labels = Some(BTreeMap::from([("by".into(), "hand".into())]));
    });
    look_at(&bench, &one);
    assert_eq!(data(&bench, "one").unwrap().len(), 1);
    assert_eq!(bench.get(&one).unwrap().metadata().labels, None);
    let delete = Write::Delete { key: one.clone(), uid: None, grace_seconds: None };
    bench.write(vec![delete]);
    look_at(&bench, &one);
    assert!(bench.get(&one).is_some());
}

#[test]
fn what_controllers_set_beside_is_left() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![config_map("one", "1")]);
    let one = key(Kind::ConfigMap, "one");
    change(&bench, &one, |object| {
        let annotations = object.metadata_mut().annotations.get_or_insert_default();
        annotations.insert("deployment.kubernetes.io/revision".into(), "3".into());
    });
    let before = bench.store.read(State::revision);
    look_at(&bench, &one);
    assert_eq!(bench.store.read(State::revision), before);
}

#[test]
fn what_is_immutable_is_made_anew() {
    let bench = Bench::new();
    let immutable = |value: &str| {
        let mut object = config_map("one", value);
        let Object::ConfigMap(map) = &mut object else { panic!("{object:?}") };
        map.immutable = Some(true);
        object
    };
    let uid = || bench.get(&key(Kind::ConfigMap, "one")).unwrap().uid().to_owned();
    agree(&bench, "a", "c1", vec![immutable("1")]);
    let (first, before) = (uid(), data(&bench, "one"));
    agree(&bench, "a", "c2", vec![immutable("1")]);
    assert_eq!(uid(), first, "nothing of it changed");
    let notes = agree(&bench, "a", "c3", vec![immutable("2")]);
    let message = "an immutable ConfigMap cannot change: deleted, to be created anew";
    assert!(notes.iter().any(|note| note.message == message), "{notes:?}");
    assert_ne!((uid(), data(&bench, "one")), (first, before));
}

#[test]
fn an_object_that_left_is_pruned_unless_it_says_otherwise() {
    let bench = Bench::new();
    let mut kept = config_map("kept", "1");
    kept.metadata_mut().annotations =
        Some(BTreeMap::from([("kustomize.toolkit.fluxcd.io/prune".into(), "disabled".into())]));
    let stranger = bench.create(config_map("stranger", "1"));
    agree(&bench, "a", "c1", vec![config_map("one", "1"), config_map("two", "1"), kept]);
    agree(&bench, "a", "c2", vec![config_map("one", "1")]);
    assert!(bench.get(&key(Kind::ConfigMap, "one")).is_some());
    assert!(bench.get(&key(Kind::ConfigMap, "two")).is_none());
    assert!(bench.get(&key(Kind::ConfigMap, "kept")).is_some());
    assert_eq!(bench.get(&stranger.key()), Some(stranger));
}

#[test]
fn a_revision_that_is_gone_leaves_its_objects() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![config_map("one", "1")]);
    let source = key(Kind::Revision, "a");
    bench.write(vec![Write::Delete { key: source.clone(), uid: None, grace_seconds: None }]);
    assert_eq!(bench.decide(reconcile, &source), Outcome::default());
    assert_eq!(bench.decide(reconcile, &key(Kind::ConfigMap, "one")), Outcome::default());
}

fn job(image: &str, ttl: Option<i32>) -> Object {
    let spec = json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}},
        "ttlSecondsAfterFinished": ttl});
    object(Kind::Job, "work", json!({ "spec": spec }))
}

#[test]
fn a_job_whose_template_changed_is_deleted_and_created_anew() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![job("one", None)]);
    let work = key(Kind::Job, "work");
    let first = bench.get(&work).unwrap();
    // What the Job controller generates does not count as a change.
    change(&bench, &work, |object| {
        let Object::Job(job) = object else { panic!("{object:?}") };
        let spec = job.spec.get_or_insert_default();
        let uid = BTreeMap::from([("batch.kubernetes.io/controller-uid".into(), "u".into())]);
        spec.selector.get_or_insert_default().match_labels = Some(uid.clone());
        spec.template.metadata.get_or_insert_default().labels = Some(uid);
    });
    look_at(&bench, &work);
    assert_eq!(bench.get(&work).unwrap().uid(), first.uid());
    let notes = agree(&bench, "a", "c2", vec![job("two", None)]);
    let second = bench.get(&work).unwrap();
    assert_ne!(second.uid(), first.uid());
    let Object::Job(job) = &*second else { panic!("{second:?}") };
    assert_eq!(job.spec.as_ref().unwrap().selector, None, "nothing of the old one's identity stays");
    assert_eq!(notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["Replaced"]);
}

#[test]
fn a_finished_job_that_deleted_itself_is_not_run_again_until_it_changes() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![job("one", Some(0))]);
    let work = key(Kind::Job, "work");
    let mut done = (*bench.get(&work).unwrap()).clone();
    let Object::Job(inner) = &mut done else { panic!("a job") };
    inner.status =
        serde_json::from_value(json!({"conditions": [{"type": "Complete", "status": "True"}]})).ok();
    bench.write(vec![Write::UpdateStatus(done)]);
    look_at(&bench, &work);
    bench.write(vec![Write::Delete { key: work.clone(), uid: None, grace_seconds: None }]);
    look_at(&bench, &work);
    look_at(&bench, &key(Kind::Revision, "a"));
    assert_eq!(bench.get(&work), None);
    agree(&bench, "a", "c2", vec![job("two", Some(0))]);
    assert!(bench.get(&work).is_some());
}

#[test]
fn a_bound_pod_that_changed_is_stopped_first_and_then_made_anew() {
    let bench = Bench::new();
    agree(&bench, "a", "c1", vec![pod("web")]);
    let web = key(Kind::Pod, "web");
    change(&bench, &web, |object| {
        let Object::Pod(pod) = object else { panic!("{object:?}") };
        pod.spec.as_mut().unwrap().node_name = Some("n".into());
    });
    look_at(&bench, &web);
    let first = bench.get(&web).unwrap();
    assert!(first.metadata().deletion_timestamp.is_none(), "being bound is no difference");
    let mut changed = pod("web");
    let Object::Pod(inner) = &mut changed else { panic!("a pod") };
    inner.spec.as_mut().unwrap().containers[0].image = Some("host:/other".into());
    agree(&bench, "a", "c2", vec![changed]);
    let ending = bench.get(&web).unwrap();
    assert!(ending.metadata().deletion_timestamp.is_some());
    assert_eq!(ending.uid(), first.uid());
    bench.write(vec![Write::Remove { key: web.clone(), uid: None }]);
    look_at(&bench, &web);
    assert_ne!(bench.get(&web).unwrap().uid(), first.uid());
}

#[test]
fn the_first_of_two_sources_keeps_the_object_until_it_lets_go() {
    let bench = Bench::new();
    agree(&bench, "b", "c1", vec![config_map("one", "of b")]);
    let notes = agree(&bench, "a", "c1", vec![config_map("one", "of a")]);
    assert_eq!(notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["OwnedByOther"]);
    look_at(&bench, &key(Kind::ConfigMap, "one"));
    assert_eq!(data(&bench, "one").unwrap()["k"], "of b");
    let uid = bench.get(&key(Kind::ConfigMap, "one")).unwrap().uid().to_owned();
    agree(&bench, "b", "c2", vec![config_map("other", "1")]);
    assert!(bench.get(&key(Kind::ConfigMap, "one")).is_some(), "it is handed over, not deleted");
    look_at(&bench, &key(Kind::Revision, "a"));
    assert_eq!(data(&bench, "one").unwrap()["k"], "of a");
    assert_eq!(bench.get(&key(Kind::ConfigMap, "one")).unwrap().uid(), uid);
}

#[test]
fn what_a_controller_made_is_not_taken_over() {
    let bench = Bench::new();
    let mut owned = config_map("one", "mine");
    owned.metadata_mut().owner_references = serde_json::from_value(json!([
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}
    ]))
    .ok();
    bench.create(owned);
    agree(&bench, "a", "c1", vec![config_map("one", "git's")]);
    assert_eq!(data(&bench, "one").unwrap()["k"], "mine");
}

#[test]
fn nothing_is_created_in_a_namespace_that_is_not_there() {
    let bench = Bench::new();
    let in_shop = || object(Kind::ConfigMap, "one", json!({"metadata": {"namespace": "shop"}}));
    let notes = agree(&bench, "a", "c1", vec![in_shop()]);
    assert_eq!(notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["NamespaceMissing"]);
    assert!(bench.get(&in_shop().key()).is_none());
    agree(&bench, "a", "c2", vec![in_shop(), object(Kind::Namespace, "shop", json!({}))]);
    assert!(bench.get(&in_shop().key()).is_some());
}

#[test]
fn the_default_namespace_is_never_pruned() {
    let bench = Bench::new();
    let default = || object(Kind::Namespace, "default", json!({}));
    agree(&bench, "a", "c1", vec![default()]);
    agree(&bench, "a", "c2", vec![]);
    assert!(bench.get(&default().key()).is_some());
}

#[test]
fn any_small_history_converges_to_its_last_commit_and_then_is_silent() {
    // Every pair of commits over three objects, each absent, in one form, or in another.
    let objects = |code: usize| -> Vec<Object> {
        let form = |place: usize| code / 3_usize.pow(u32::try_from(place).unwrap()) % 3;
        (0..3).filter(|&p| form(p) > 0).map(|p| config_map(&format!("o{p}"), &form(p).to_string())).collect()
    };
    for code in (0..27 * 27).step_by(29) {
        let bench = Bench::new();
        agree(&bench, "a", "c1", objects(code / 27));
        agree(&bench, "a", "c2", objects(code % 27));
        let names = |list: Vec<Object>| list.into_iter().map(|o| o.key()).collect::<Vec<_>>();
        let (stored, _) = bench.store.list(Kind::ConfigMap, None);
        let stored_keys: Vec<_> = stored.iter().map(|o| o.key()).collect();
        assert_eq!(stored_keys, names(objects(code % 27)), "{code}");
        for (have, wanted) in stored.iter().zip(objects(code % 27)) {
            let (Object::ConfigMap(have), Object::ConfigMap(wanted)) = (&**have, &wanted) else {
                panic!("maps")
            };
            assert_eq!(have.data, wanted.data, "{code}");
        }
    }
}
