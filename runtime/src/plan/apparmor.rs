//! Which AppArmor profile a container is to run under. Pure: whether the kernel has it loaded is
//! asked when the pod is made.

use super::build::PodInput;
use super::error::Cause;
use k8s_openapi::api::core::v1 as api;
use serde::{Deserialize, Serialize};

/// What a pod's annotation for one of its containers begins with, from before there was a field.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Where the rules of AppArmor for a container come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmorProfile {
    /// The container has what the agent has: nothing is to be enforced.
    #[default]
    Inherited,
    /// None confines it.
    Unconfined,
    /// The runtime's own profile, for a container that says nothing: where it cannot be loaded, it
    /// is as [`AppArmorProfile::Inherited`].
    DefaultIfPossible,
    /// The runtime's own profile.
    RuntimeDefault,
    /// One that the node's keeper has loaded.
    Localhost(String),
}

/// What the container, its pod's annotation for it, or its pod says, the first that says anything.
///
/// # Errors
/// If the kernel cannot do it, or the annotation means nothing.
pub(super) fn of_container(
    container: &api::Container,
    privileged: bool,
    input: &PodInput<'_>,
) -> Result<AppArmorProfile, Cause> {
    let enforced = input.node.rules.apparmor;
    // As in every other runtime: privileged is without limits, but for those that it names.
    let or_privileged = |profile| if privileged || !enforced { AppArmorProfile::Inherited } else { profile };
    let wanted = wanted(container, input)?;
    Ok(match wanted {
        Some(AppArmorProfile::Localhost(_)) if !enforced => return Err(Cause::NoAppArmor),
        Some(AppArmorProfile::Unconfined) if !enforced => AppArmorProfile::Inherited,
        Some(AppArmorProfile::RuntimeDefault) => or_privileged(AppArmorProfile::RuntimeDefault),
        Some(named) => named,
        None => or_privileged(AppArmorProfile::DefaultIfPossible),
    })
}

fn wanted(container: &api::Container, input: &PodInput<'_>) -> Result<Option<AppArmorProfile>, Cause> {
    let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    if let Some(profile) = own {
        return Ok(of_field(profile));
    }
    let key = format!("{ANNOTATION}{}", container.name);
    let annotations = input.pod.metadata.annotations.as_ref();
    if let Some(text) = annotations.and_then(|annotations| annotations.get(&key)) {
        let message = "it is runtime/default, unconfined or localhost/<profile>".to_owned();
        return of_word(text).map(Some).ok_or(Cause::BadAnnotation { key, message });
    }
    let of_pod = input.spec().and_then(|spec| spec.security_context.as_ref());
    Ok(of_pod.and_then(|context| context.app_armor_profile.as_ref()).and_then(of_field))
}

/// `None` for what validation has refused.
fn of_field(profile: &api::AppArmorProfile) -> Option<AppArmorProfile> {
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", Some(name)) => Some(AppArmorProfile::Localhost(name.clone())),
        ("RuntimeDefault", _) => Some(AppArmorProfile::RuntimeDefault),
        ("Unconfined", _) => Some(AppArmorProfile::Unconfined),
        _ => None,
    }
}

fn of_word(text: &str) -> Option<AppArmorProfile> {
    match text {
        "runtime/default" => Some(AppArmorProfile::RuntimeDefault),
        "unconfined" => Some(AppArmorProfile::Unconfined),
        _ => {
            let name = text.strip_prefix("localhost/").filter(|name| !name.is_empty())?;
            Some(AppArmorProfile::Localhost(name.to_owned()))
        }
    }
}
