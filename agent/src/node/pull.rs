//! The images of a pod, fetched before anything of it is made.

use super::Node;
use super::work::{chain, containers};
use k8s_openapi::api::core::v1::{Container, Pod, Secret, ServiceAccount};
use manifests::image::Reference;
use manifests::{Kind, Object, ObjectKey};
use runtime::image::registry::{Credentials, CredentialsError};
use runtime::image::{ImageError, PullPolicy};
use runtime::status::Problem;
use std::collections::BTreeSet;
use std::time::Instant;

/// Every image of `pod` that a registry has is in the store.
pub(super) async fn pull_all(node: &Node, object: &Object) -> Result<(), Problem> {
    let Ok(pod) = <&Pod>::try_from(object) else { return Ok(()) };
    let mut secrets = None;
    let mut seen = BTreeSet::new();
    for container in containers(pod) {
        let reference = container.image.as_deref().unwrap_or_default();
        let policy = PullPolicy::from_manifest(container.image_pull_policy.as_deref());
        let from_registry = matches!(Reference::parse(reference), Ok(Reference::Registry(_)));
        if !from_registry || !seen.insert(reference) {
            continue;
        }
        let secrets = secrets.get_or_insert_with(|| credentials(node, object, pod));
        pull(node, object, container, policy, secrets).await?;
    }
    Ok(())
}

async fn pull(
    node: &Node,
    object: &Object,
    container: &Container,
    policy: PullPolicy,
    secrets: &Credentials,
) -> Result<(), Problem> {
    let reference = container.image.as_deref().unwrap_or_default();
    let key = object.key();
    let missing = node.images.store().resolve(reference, PullPolicy::IfNotPresent).is_err();
    if policy == PullPolicy::Always || (missing && policy == PullPolicy::IfNotPresent) {
        node.note(&key, false, "Pulling", format!("Pulling image \"{reference}\""));
    }
    let began = Instant::now();
    match node.metrics.operation("pull_image", node.images.pull(reference, policy, secrets)).await {
        Ok((_, true)) => {
            let took = began.elapsed().as_millis();
            let message = format!("Successfully pulled image \"{reference}\" in {took}ms");
            node.note(&key, false, "Pulled", message);
            Ok(())
        }
        Ok((_, false)) => {
            let message = format!("Container image \"{reference}\" already present on machine");
            node.note(&key, false, "Pulled", message);
            Ok(())
        }
        Err(error) => Err(problem(container, &error)),
    }
}

pub(super) fn problem(container: &Container, error: &ImageError) -> Problem {
    let image = container.image.as_deref().unwrap_or_default();
    let message = format!("image \"{image}\": {}", chain(error));
    Problem::Container { name: container.name.clone(), reason: error.reason().into(), message }
}

/// What the pod's `imagePullSecrets` hold, or else its service account's. One that is
/// missing or broken is told, and gone without: the registry may not need it.
fn credentials(node: &Node, object: &Object, pod: &Pod) -> Credentials {
    let namespace = object.namespace();
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|spec| spec.image_pull_secrets.as_ref()).filter(|names| !names.is_empty());
    let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let account = node.store.get(&ObjectKey::new(Kind::ServiceAccount, namespace, account));
    let account = account.as_deref().and_then(|account| <&ServiceAccount>::try_from(account).ok());
    let names = own.or_else(|| account.and_then(|account| account.image_pull_secrets.as_ref()));
    let mut all = Credentials::default();
    for name in names.into_iter().flatten().map(|reference| reference.name.as_str()) {
        let stored = node.store.get(&ObjectKey::new(Kind::Secret, namespace, name));
        let secret = stored.as_deref().and_then(|secret| <&Secret>::try_from(secret).ok());
        let problem = match secret.map(read) {
            Some(Ok(Some(found))) => {
                all.merge(found);
                continue;
            }
            Some(Ok(None)) => "it is not of type kubernetes.io/dockerconfigjson".to_owned(),
            Some(Err(error)) => chain(&error),
            None => "it does not exist".to_owned(),
        };
        let message = format!("Unable to use the image pull secret {namespace}/{name}: {problem}");
        node.note(&object.key(), true, "FailedToRetrieveImagePullSecret", message);
    }
    all
}

fn read(secret: &Secret) -> Result<Option<Credentials>, CredentialsError> {
    let data = |key: &str| secret.data.as_ref()?.get(key).map(|value| value.0.as_slice());
    match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(text), _) => Credentials::from_config_json(text).map(Some),
        (None, Some(text)) => Credentials::from_dockercfg(text).map(Some),
        (None, None) => Ok(None),
    }
}
