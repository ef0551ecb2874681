//! Objects made from templates: their names, and Pods as their owners want them.

use super::hash::SAFE_ALPHABET;
use super::{Knowledge, Outcome};
use crate::store::{State, Write};
use k8s_openapi::api::core::v1::{Pod, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use manifests::{Kind, Object, ObjectKey};

/// A name has at most 63 characters, and five of them are the suffix.
const MAX_BASE: usize = 58;

/// A reference that makes `owner` the controller of what carries it.
pub(crate) fn owner_reference(owner: &Object) -> OwnerReference {
    OwnerReference {
        api_version: owner.kind().api_version().into(),
        kind: owner.kind().as_str().into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What Kubernetes puts before the suffix of a pod's name: `<owner>-`, or less of it.
pub(crate) fn base_of(owner: &str) -> String {
    let mut base = format!("{owner}-");
    while base.len() > MAX_BASE {
        base.pop();
    }
    base
}

/// `base` and five characters of chance: no pod of `namespace`, stored or about to be, has that name.
pub(crate) fn fresh_pod_name(
    state: &State,
    outcome: &Outcome,
    context: &mut Knowledge<'_>,
    namespace: &str,
    base: &str,
) -> String {
    loop {
        let name = format!("{base}{}", suffix(context.random.next()));
        let key = ObjectKey::new(Kind::Pod, namespace, name);
        let planned = |write: &Write| matches!(write, Write::Create(object) if object.kind() == Kind::Pod && object.name() == key.name);
        if state.get(&key).is_none() && !outcome.writes.iter().any(planned) {
            return key.name;
        }
    }
}

fn suffix(mut number: u64) -> String {
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        let at = usize::try_from(number % 27).unwrap_or_default();
        text.push(char::from(SAFE_ALPHABET[at]));
        number /= 27;
    }
    text
}

/// The pod that `template` describes, controlled by `owner`, in its namespace.
pub(crate) fn pod(owner: &Object, template: &PodTemplateSpec, name: String) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(base_of(owner.name())),
            namespace: Some(owner.namespace().into()),
            labels: meta.and_then(|meta| meta.labels.clone()),
            annotations: meta.and_then(|meta| meta.annotations.clone()),
            finalizers: meta.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() }),
    }
}
