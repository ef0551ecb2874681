//! What a container takes over from systemd's services, with everything resolved.

use super::build::PodInput;
use super::error::Cause;
use super::values::secret_values;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Container;
use manifests::habits::Habits;
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where a container finds the socket that it tells its supervisor on.
const NOTIFY_SOCKET: &str = "/run/evenkeel/notify";
/// Where a container finds its credentials.
pub(crate) const CREDENTIALS: &str = "/run/credentials";

/// The habits of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HabitPlan {
    /// As its pod's annotations have them.
    pub wanted: Habits,
    /// The values of its credentials.
    pub credentials: Vec<CredentialPlan>,
}

/// A file in `$CREDENTIALS_DIRECTORY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialPlan {
    /// The file's name.
    pub name: String,
    /// Its content.
    pub value: ByteString,
}

/// The habits of `container`.
///
/// # Errors
/// If an annotation cannot be understood, or a credential's Secret or key is not there.
pub(super) fn plan(container: &Container, input: &PodInput<'_>) -> Result<HabitPlan, Cause> {
    let Some(annotations) = &input.pod.metadata.annotations else { return Ok(HabitPlan::default()) };
    let is_init = input.is_init(container) && !input.is_sidecar(container);
    let wanted = Habits::of(annotations, &container.name, is_init).map_err(|mistakes| {
        let first = mistakes.into_iter().next();
        let (key, message) = first.map(|one| (one.key, one.message)).unwrap_or_default();
        Cause::BadAnnotation { key, message }
    })?;
    let credentials = wanted.credentials.iter().map(|credential| {
        let missing = || Cause::SecretNotFound { name: credential.secret.clone() };
        let secret = input.secrets.get(&credential.secret).ok_or_else(missing)?;
        let values = secret_values(secret);
        let value = values.get(credential.key.as_str());
        let value =
            value.ok_or_else(|| input.key_not_found("Secret", &credential.secret, &credential.key))?;
        Ok(CredentialPlan { name: credential.name.clone(), value: ByteString(value.to_vec()) })
    });
    Ok(HabitPlan { credentials: credentials.collect::<Result<_, Cause>>()?, wanted })
}

/// Where the supervisor of the pod in `pod_dir` listens to what `container` says.
pub(crate) fn notify_socket(pod_dir: &Path, container: &str) -> PathBuf {
    pod_dir.join("notify").join(container)
}

/// The specification has the variables and mounts that `plan` calls for.
pub(super) fn equip(spec: &mut Spec, container: &str, plan: &HabitPlan, pod_dir: &Path) {
    let mut variables = Vec::new();
    let mut mounts = Vec::new();
    if plan.wanted.notify || plan.wanted.watchdog.is_some() {
        variables.push(format!("NOTIFY_SOCKET={NOTIFY_SOCKET}"));
        mounts.push(bind(&notify_socket(pod_dir, container), NOTIFY_SOCKET));
    }
    if let Some(period) = plan.wanted.watchdog {
        variables.push(format!("WATCHDOG_USEC={}", period.as_micros()));
    }
    if !plan.credentials.is_empty() {
        variables.push(format!("CREDENTIALS_DIRECTORY={CREDENTIALS}"));
        mounts.push(memory(plan));
    }
    if mounts.is_empty() {
        return;
    }
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(variables);
        process.set_env(Some(env));
    }
    let mut all = spec.mounts().clone().unwrap_or_default();
    all.extend(mounts);
    all.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(all));
}

fn bind(from: &Path, to: &str) -> Mount {
    let mut mount = Mount::default();
    let options = ["bind", "rprivate", "nosuid", "nodev", "noexec"].map(str::to_owned);
    mount
        .set_destination(to.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(from.to_owned()))
        .set_options(Some(options.to_vec()));
    mount
}

/// As much memory as the credentials fill, page by page.
fn memory(plan: &HabitPlan) -> Mount {
    let pages = |credential: &CredentialPlan| credential.value.0.len() / 4096 + 2;
    let size: usize = plan.credentials.iter().map(pages).sum::<usize>() * 4096;
    let options = ["nosuid", "nodev", "noexec", "mode=0700"].map(str::to_owned);
    let mut mount = Mount::default();
    mount
        .set_destination(CREDENTIALS.into())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some("tmpfs".into()))
        .set_options(Some(options.into_iter().chain([format!("size={size}")]).collect()));
    mount
}
