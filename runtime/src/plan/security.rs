//! What keeps a container apart beside what its OCI specification says.

use super::apparmor::{self, AppArmorProfile};
use super::build::PodInput;
use super::error::Cause;
use k8s_openapi::api::core::v1 as api;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a pod's containers share, and what keeps all of them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSecurity {
    /// The containers see one another's processes.
    pub share_processes: bool,
    /// The pod's users are nobody on the host.
    pub own_users: bool,
    /// The host's id of such a pod's root; the runtime chooses it when the pod is made.
    pub first_id: Option<u32>,
    /// How many ids it has; 65536 if `None`.
    pub id_count: Option<u32>,
    /// The OCI runtime that makes its containers, if that is another program.
    pub handler: Option<Handler>,
}

/// Another OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// What RuntimeClasses call it.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
    /// Where it keeps what it knows of its containers; the pod's folder if `None`.
    pub root: Option<PathBuf>,
    /// What it is told before its command.
    pub arguments: Vec<String>,
}

/// What keeps a container apart beside what its OCI specification says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurity {
    /// Which system calls it may make.
    pub seccomp: SeccompProfile,
    /// That profile, compiled; the runtime makes it when the pod is made.
    pub filter: Option<PathBuf>,
    /// It has every device of the host, and nothing is hidden from it.
    pub privileged: bool,
    /// The image's own groups of the user are left out.
    pub strict_groups: bool,
    /// Where its rules of AppArmor come from.
    pub confinement: AppArmorProfile,
    /// The AppArmor profile that it runs under, loaded already; the runtime fills it in when the
    /// pod is made.
    pub apparmor: Option<String>,
}

/// Where the rules for a container's system calls come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// It may make every call.
    #[default]
    Unconfined,
    /// What ordinary programs need.
    RuntimeDefault,
    /// A file in the node's folder of profiles.
    Localhost(PathBuf),
    /// A file anywhere on the node, for clients that may read them all.
    File(PathBuf),
}

/// What a node's configuration says of the pods that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRules {
    /// Pods that name no seccomp profile have `RuntimeDefault`.
    pub seccomp_default: bool,
    /// Kernel parameters beyond the safe ones that pods may set: names, or `prefix*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The kernel enforces AppArmor profiles.
    pub apparmor: bool,
    /// Over how many microseconds a limit of CPU is counted; 100000 if 0.
    pub cpu_period_us: u64,
    /// The runtimes that RuntimeClasses can name.
    pub runtimes: Vec<Handler>,
}

impl Default for NodeRules {
    fn default() -> Self {
        Self {
            seccomp_default: true,
            allowed_unsafe_sysctls: Vec::new(),
            apparmor: false,
            cpu_period_us: 0,
            runtimes: Vec::new(),
        }
    }
}

/// What the pod's specification says of all its containers.
pub(super) fn of_pod(spec: &api::PodSpec) -> PodSecurity {
    PodSecurity {
        share_processes: spec.share_process_namespace == Some(true),
        own_users: spec.host_users == Some(false),
        first_id: None,
        id_count: None,
        handler: None,
    }
}

/// What the container's and its pod's security contexts say.
///
/// # Errors
/// If the kernel cannot do it.
pub(super) fn of_container(
    container: &api::Container,
    input: &PodInput<'_>,
) -> Result<ContainerSecurity, Cause> {
    let context = container.security_context.as_ref();
    let pod = input.spec().and_then(|spec| spec.security_context.as_ref());
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    let groups = pod.and_then(|pod| pod.supplemental_groups_policy.as_deref());
    Ok(ContainerSecurity {
        // As in every other runtime: privileged is without limits.
        seccomp: if privileged { SeccompProfile::Unconfined } else { seccomp(context, pod, input) },
        filter: None,
        privileged,
        strict_groups: groups == Some("Strict"),
        confinement: apparmor::of_container(container, privileged, input)?,
        apparmor: None,
    })
}

fn seccomp(
    context: Option<&api::SecurityContext>,
    pod: Option<&api::PodSecurityContext>,
    input: &PodInput<'_>,
) -> SeccompProfile {
    let own = context.and_then(|context| context.seccomp_profile.as_ref());
    let wanted = own.or_else(|| pod.and_then(|pod| pod.seccomp_profile.as_ref()));
    match wanted.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("Localhost", path)) => SeccompProfile::Localhost(path.unwrap_or_default().into()),
        Some(("RuntimeDefault", _)) => SeccompProfile::RuntimeDefault,
        None if input.node.rules.seccomp_default => SeccompProfile::RuntimeDefault,
        Some(_) | None => SeccompProfile::Unconfined,
    }
}
