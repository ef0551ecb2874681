//! What is packed is what it was.

use super::*;
use manifests::k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// An object `n<number>`; a third of them have an owner, another third annotations.
fn object(number: usize) -> Object {
    let mut object: Object = match number % 4 {
        0 => Pod::default().into(),
        1 => Secret::default().into(),
        _ => {
            let data = [("k".to_owned(), format!("{number} ").repeat(100))].into();
            ConfigMap { data: Some(data), ..ConfigMap::default() }.into()
        }
    };
    let meta = object.metadata_mut();
    meta.namespace = Some("default".into());
    meta.name = Some(format!("n{number}"));
    meta.resource_version = Some(number.to_string());
    match number % 3 {
        0 => {
            let owner = OwnerReference { uid: format!("u{}", number % 9), ..OwnerReference::default() };
            meta.owner_references = Some(vec![owner]);
        }
        1 => meta.annotations = Some([("a".to_owned(), "b".to_owned())].into()),
        _ => {}
    }
    object
}

fn filled(count: usize) -> State {
    let mut state = State::default();
    for number in 0..count {
        state.insert(Arc::new(object(number)), number as u64);
        state.tidy();
    }
    state
}

fn packed(state: &State) -> usize {
    state.objects.values().filter(|held| matches!(held, Held::Packed(..))).count()
}

fn loose(state: &State) -> usize {
    let is_loose = |held: &&Held| matches!(held, Held::Packed(packed, _) if packed.is_plain());
    state.objects.values().filter(is_loose).count()
}

fn unpacked_too(state: &State) -> usize {
    let is_read = |held: &&Held| matches!(held, Held::Packed(_, object) if object.get().is_some());
    state.objects.values().filter(is_read).count()
}

#[test]
fn what_is_packed_reads_as_what_it_was_by_every_way() {
    let count = 26_000;
    let mut state = filled(count);
    let loose_before = loose(&state);
    assert!(loose_before < count * 3 / 4 - 1000, "in a rush, the oldest are compressed: {loose_before}");
    while state.is_loose() {
        assert!(state.pack(100) <= 100);
    }
    assert_eq!(packed(&state), count * 3 / 4);
    // Secrets without content are too short.
    assert!(
        loose(&state) <= count / 4 && unpacked_too(&state) <= READ,
        "{} {}",
        loose(&state),
        unpacked_too(&state)
    );
    let pods = state.list(Kind::Pod, None).count();
    assert_eq!((pods, unpacked_too(&state) <= READ), (count / 4, true));
    let expected: BTreeMap<ObjectKey, Object> = (0..count).map(|n| (object(n).key(), object(n))).collect();
    for (key, object) in &expected {
        assert_eq!(state.get(key).map(|found| &**found), Some(object));
    }
    let looked: Vec<_> = state.after(None).map(|(key, object)| (key.clone(), (*object).clone())).collect();
    assert_eq!(looked, expected.clone().into_iter().collect::<Vec<_>>());
    let texts = state.texts().map(|(key, json)| Object::from_json_bytes(key.kind, &json.unwrap()).unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), expected.values().cloned().collect::<Vec<_>>());
    let handles = state.handles(Kind::ConfigMap, Some("default")).map(Handle::look);
    assert!(handles.eq(state.list(Kind::ConfigMap, None).cloned()));
    let annotated = state.annotated(|key| key.kind == Kind::Secret).count();
    let has = |object: &&Object| object.kind() == Kind::Secret && object.annotation("a").is_some();
    assert_eq!(annotated, expected.values().filter(has).count());
    assert!(state.is_crowded());
    state.tidy();
    assert!(!state.is_crowded() && unpacked_too(&state) <= READ, "{}", unpacked_too(&state));
}

#[test]
fn owners_are_known_of_what_is_packed_and_forgotten_with_it() {
    let mut state = filled(14_000);
    let owned = |state: &State| state.owned_by("u3").count();
    let before = owned(&state);
    while state.is_loose() {
        state.pack(1000);
    }
    assert_eq!(owned(&state), before);
    let key = object(21).key();
    assert!(state.owned_by("u3").any(|object| object.key() == key));
    state.remove(&key, 20_000);
    assert_eq!((owned(&state), state.revision()), (before - 1, 20_000));
    let mut freed = object(30);
    freed.metadata_mut().owner_references = None;
    state.insert(Arc::new(freed), 20_001);
    assert_eq!(owned(&state), before - 2);
}

#[test]
fn what_was_read_as_text_is_packed_at_once_and_made_shorter_later() {
    let mut state = State::default();
    for number in 0..3000 {
        let object = object(number);
        let json = object.to_json_bytes().unwrap();
        state.insert_text(object, &json, 1);
    }
    assert_eq!(packed(&state), 2250);
    let before = loose(&state);
    let copy = state.clone();
    while state.is_loose() {
        state.pack(64);
    }
    // Secrets without content are too short.
    assert!(before == 2250 && loose(&state) < 800, "{before} {}", loose(&state));
    assert_eq!(loose(&copy), before);
    for number in 0..3000 {
        assert_eq!(**state.get(&object(number).key()).unwrap(), object(number));
    }
}
