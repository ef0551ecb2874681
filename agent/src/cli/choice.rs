//! Which pod and which container are meant by the words on the command line.

use super::dependents::Dependents;
use super::{CommandError, output, target};
use crate::client::{Client, ObjectPath};
use crate::print;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object};

/// The annotation that names the container to take when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The pod that `words` name: itself, or of what makes pods one, a ready one first.
///
/// # Errors
/// If there is none.
pub(super) async fn pod(client: &Client, words: &[String], namespace: &str) -> Result<Pod, CommandError> {
    let (kind, name) = target::one(words, Some(Kind::Pod))?;
    let object = client.get_object(&ObjectPath::one(kind, namespace, &name)).await?;
    if let Object::Pod(pod) = object {
        return Ok(*pod);
    }
    let dependents = Dependents::of(client, namespace).await?;
    let pods = dependents.pods(&object);
    let chosen = pods.iter().find(|pod| print::pod_summary(pod).ready > 0).or(pods.first());
    let Some(chosen) = chosen else {
        let object = print::qualified_name(kind, &name);
        return Err(CommandError::NoPods { object, namespace: namespace.to_owned() });
    };
    if pods.len() > 1 {
        let name = chosen.metadata.name.as_deref().unwrap_or_default();
        output::note(&format!("Found {} pods, using pod/{name}", pods.len()));
    }
    Ok((*chosen).clone())
}

/// The name of the container that is meant: `wanted`, the annotated one, or the first.
///
/// # Errors
/// If the pod has no such container.
pub(super) fn container(pod: &Pod, wanted: Option<&str>) -> Result<String, CommandError> {
    let (init, usual) = containers(pod);
    let annotations = pod.metadata.annotations.as_ref();
    let annotated = || annotations?.get(DEFAULT_CONTAINER).map(String::as_str);
    let Some(wanted) = wanted.or_else(annotated) else {
        let first = usual.first().copied().unwrap_or_default();
        if usual.len() > 1 {
            let init = init.iter().map(|container| format!("{container} (init)"));
            let all: Vec<_> = usual.iter().map(|name| (*name).to_owned()).chain(init).collect();
            output::note(&format!("Defaulted container {first:?} out of: {}", all.join(", ")));
        }
        return Ok(first.to_owned());
    };
    let known: Vec<_> = init.iter().chain(&usual).copied().chain(added(pod)).collect();
    if known.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    let pod = pod.metadata.name.clone().unwrap_or_default();
    Err(CommandError::NoContainer { container: wanted.to_owned(), pod, known: known.join(", ") })
}

/// Names of containers that were added to look into the pod.
pub(super) fn added(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten()).map(|container| container.name.as_str())
}

/// Names of init containers and of containers.
pub(super) fn containers(pod: &Pod) -> (Vec<&str>, Vec<&str>) {
    let Some(spec) = &pod.spec else { return (Vec::new(), Vec::new()) };
    let init = spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    (init, spec.containers.iter().map(|c| c.name.as_str()).collect())
}
