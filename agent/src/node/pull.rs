//! The images of a pod, fetched before anything of it is made.

use super::Node;
use super::work::containers;
use crate::chain::chain;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use manifests::image::Reference;
use manifests::{Kind, Object, ObjectKey};
use runtime::image::registry::{Credentials, CredentialsError};
use runtime::image::{ImageError, PullPolicy};
use runtime::plan::image_key;
use runtime::status::Problem;
use std::collections::BTreeSet;
use std::time::Instant;

/// Every image of `pod` that a registry has is in the store.
pub(super) async fn pull_all(node: &Node, object: &Object) -> Result<(), Problem> {
    let Ok(pod) = <&Pod>::try_from(object) else { return Ok(()) };
    let mut secrets = None;
    let mut seen = BTreeSet::new();
    for wanted in wanted(pod) {
        let from_registry = matches!(Reference::parse(wanted.reference), Ok(Reference::Registry(_)));
        if !from_registry || !seen.insert(wanted.reference) {
            continue;
        }
        let secrets = secrets.get_or_insert_with(|| credentials(node, object, pod));
        pull(node, object, &wanted, secrets).await?;
    }
    Ok(())
}

/// An image that a pod needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) reference: &'a str,
    pub(super) policy: PullPolicy,
    /// By what.
    by: By<'a>,
}

#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Container(&'a str),
    Volume(&'a str),
}

impl Wanted<'_> {
    /// Its name among the images of the pod.
    pub(super) fn key(&self) -> String {
        match self.by {
            By::Container(name) => name.to_owned(),
            By::Volume(name) => image_key(name),
        }
    }

    /// What its pod waits with.
    pub(super) fn problem(&self, error: &ImageError) -> Problem {
        let (reason, reference) = (error.reason().to_owned(), self.reference);
        let why = chain(error);
        match self.by {
            By::Container(name) => {
                let message = format!("image \"{reference}\": {why}");
                Problem::Container { name: name.to_owned(), reason, message }
            }
            By::Volume(name) => {
                let message = format!("image \"{reference}\" of volume \"{name}\": {why}");
                Problem::Pod { reason, message }
            }
        }
    }
}

/// Every image that `pod` needs: its containers', then its volumes'.
pub(super) fn wanted(pod: &Pod) -> impl Iterator<Item = Wanted<'_>> {
    let of_containers = containers(pod).map(|container| Wanted {
        reference: container.image.as_deref().unwrap_or_default(),
        policy: PullPolicy::from_manifest(container.image_pull_policy.as_deref()),
        by: By::Container(&container.name),
    });
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let of_volumes = volumes.filter_map(|volume| {
        let image = volume.image.as_ref()?;
        Some(Wanted {
            reference: image.reference.as_deref().unwrap_or_default(),
            policy: PullPolicy::from_manifest(image.pull_policy.as_deref()),
            by: By::Volume(&volume.name),
        })
    });
    of_containers.chain(of_volumes)
}

async fn pull(
    node: &Node,
    object: &Object,
    wanted: &Wanted<'_>,
    secrets: &Credentials,
) -> Result<(), Problem> {
    let Wanted { reference, policy, .. } = *wanted;
    let key = object.key();
    let missing = node.images.store().resolve(reference, PullPolicy::IfNotPresent).is_err();
    if policy == PullPolicy::Always || (missing && policy == PullPolicy::IfNotPresent) {
        node.note(&key, false, "Pulling", format!("Pulling image \"{reference}\""));
    }
    let began = Instant::now();
    match node.metrics.operation("pull_image", node.images.pull(reference, policy, secrets)).await {
        Ok((_, Some(provenance))) => {
            let took = began.elapsed().as_millis();
            let mut message = format!("Successfully pulled image \"{reference}\" in {took}ms");
            if !provenance.is_empty() {
                message = format!("{message}: {provenance}");
            }
            node.note(&key, false, "Pulled", message);
            Ok(())
        }
        Ok((_, None)) => {
            let message = format!("Container image \"{reference}\" already present on machine");
            node.note(&key, false, "Pulled", message);
            Ok(())
        }
        Err(error) => Err(wanted.problem(&error)),
    }
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
