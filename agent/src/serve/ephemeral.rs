//! The subresource `ephemeralcontainers`: containers more for a pod that runs.

use super::Api;
use super::objects::{check, written};
use super::path::Target;
use super::status::Refusal;
use axum::response::Response;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::Write;
use serde_json::{Value, json};

/// What an ephemeral container cannot have. Source: Kubernetes' `validateEphemeralContainers`.
const FORBIDDEN: [&str; 8] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicy",
];

/// Answers PUT and PATCH: those of the body's `spec.ephemeralContainers` that the pod does not have
/// are added. None can be changed or taken away.
pub(super) async fn add(api: &Api, target: &Target, body: &[u8]) -> Result<Response, Refusal> {
    let (namespace, name) =
        (target.namespace.as_deref().unwrap_or_default(), target.name.as_deref().unwrap_or_default());
    let object = api.store.get(&ObjectKey::new(Kind::Pod, namespace, name));
    let object = object.ok_or_else(|| Refusal::not_found(format!("pods \"{name}\" not found")))?;
    let mut pod = match <&Pod>::try_from(&*object) {
        Ok(pod) => pod.clone(),
        Err(error) => return Err(Refusal::internal(error.to_string())),
    };
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("body: {error}")))?;
    let wanted = value.pointer("/spec/ephemeralContainers").cloned().unwrap_or_else(|| json!([]));
    let wanted: Vec<Value> = serde_json::from_value(wanted)
        .map_err(|error| Refusal::bad_request(format!("spec.ephemeralContainers: {error}")))?;
    for value in wanted {
        add_one(&mut pod, &value)?;
    }
    written(&api.store, Write::Update(Object::from(pod))).await
}

fn add_one(pod: &mut Pod, value: &Value) -> Result<(), Refusal> {
    let wanted: EphemeralContainer = serde_json::from_value(value.clone())
        .map_err(|error| Refusal::bad_request(format!("spec.ephemeralContainers: {error}")))?;
    let name = &wanted.name;
    let invalid = |message: String| Refusal::invalid(format!("spec.ephemeralContainers[{name}]: {message}"));
    let Some(spec) = &mut pod.spec else { return Err(Refusal::internal("a pod without spec")) };
    if let Some(known) = spec.ephemeral_containers.iter().flatten().find(|known| known.name == *name) {
        if *known == wanted {
            return Ok(());
        }
        return Err(invalid("existing ephemeral containers may not be changed".to_owned()));
    }
    if let Some(field) = FORBIDDEN.iter().find(|field| value.get(**field).is_some_and(|v| !v.is_null())) {
        return Err(invalid(format!("{field} cannot be set for an ephemeral container")));
    }
    let mut others = spec.init_containers.iter().flatten().chain(&spec.containers).map(|one| &one.name);
    if others.any(|other| other == name) {
        return Err(invalid("another container of the pod has this name".to_owned()));
    }
    let target = wanted.target_container_name.as_ref().filter(|target| !target.is_empty());
    if let Some(target) = target.filter(|target| !spec.containers.iter().any(|one| one.name == **target)) {
        return Err(invalid(format!("targetContainerName: the pod has no container {target:?}")));
    }
    let mut as_container = value.clone();
    if let Some(fields) = as_container.as_object_mut() {
        fields.remove("targetContainerName");
    }
    // By the rules of every other container.
    check(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "added"},
        "spec": {"containers": [as_container], "volumes": spec.volumes},
    }))?;
    spec.ephemeral_containers.get_or_insert_default().push(wanted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(value: &Value) -> Option<String> {
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}],
            "ephemeralContainers": [{"name": "old", "image": "x"}]}}))
            .expect("a pod");
        let refusal = add_one(&mut pod, value).err()?;
        refusal.to_json()["message"].as_str().map(str::to_owned)
    }

    #[test]
    fn only_what_can_be_added_is() {
        assert_eq!(refused(&json!({"name": "d", "image": "host:", "targetContainerName": "a"})), None);
        assert_eq!(refused(&json!({"name": "old", "image": "x"})), None);
        for (value, why) in [
            (json!({"name": "old", "image": "y"}), "may not be changed"),
            (json!({"name": "a", "image": "x"}), "has this name"),
            (json!({"name": "d", "image": "x", "targetContainerName": "b"}), "no container \"b\""),
            (json!({"name": "d", "image": "x", "resources": {}}), "resources cannot be set"),
            (json!({"name": "D_", "image": "x"}), "name"),
            (json!({"name": "d"}), "image"),
        ] {
            assert!(
                refused(&value).is_some_and(|message| message.contains(why)),
                "{value}: {:?}",
                refused(&value)
            );
        }
    }
}
