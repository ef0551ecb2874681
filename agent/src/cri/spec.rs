//! A container's configuration as the runtime's plan: by way of the Pod that would have it, and
//! then what a Pod has no words for. Pure.

use super::v1;
use k8s_openapi::api::core::v1 as core;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Spec};
use runtime::plan::{
    ContainerPlan, Devices, LogPlace, Resources, SeccompProfile, SharedMount, USER_ANNOTATION,
};
use std::path::{Path, PathBuf};
use tonic::Status;
use v1::security_profile::ProfileType;

/// The microseconds of a CPU period when none is named.
const USUAL_PERIOD: i64 = 100_000;

/// What the container was asked to be in matters of security.
pub(super) fn security(config: &v1::ContainerConfig) -> v1::LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

/// `$(…)` in the text means nothing any more: whoever asks has replaced it.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn literals(list: &[String]) -> Option<Vec<String>> {
    Some(list.iter().map(|text| literal(text)).collect())
}

/// The container as a Pod has it, and the volumes that it mounts.
///
/// # Errors
/// `InvalidArgument` if the configuration contradicts itself.
pub(super) fn container(
    id: &str,
    config: &v1::ContainerConfig,
) -> Result<(core::Container, Vec<core::Volume>), Status> {
    let env = config.envs.iter().map(|env| {
        let value = std::str::from_utf8(&env.value).map_err(|_| {
            Status::invalid_argument(format!("the value of the variable {} is no text", env.key))
        })?;
        Ok(core::EnvVar { name: env.key.clone(), value: Some(literal(value)), value_from: None })
    });
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let name = volume_name(id, index);
        mounts.push(volume_mount(&name, mount)?);
        volumes.push(volume(name, mount));
    }
    let image = config.image.as_ref().map(|image| image.image.clone());
    let container = core::Container {
        name: id.to_owned(),
        image,
        command: literals(&config.command),
        args: literals(&config.args),
        working_dir: Some(config.working_dir.clone()).filter(|folder| !folder.is_empty()),
        env: Some(env.collect::<Result<_, Status>>()?),
        volume_mounts: Some(mounts),
        security_context: Some(security_context(config)?),
        stdin: Some(config.stdin),
        stdin_once: Some(config.stdin_once),
        tty: Some(config.tty),
        ..core::Container::default()
    };
    Ok((container, volumes))
}

/// The volume of a mount, by its place among the container's; no two of a sandbox are called so.
pub(super) fn volume_name(id: &str, index: usize) -> String {
    format!("{id}.{index}")
}

/// The image that is to be mounted, if it is one.
pub(super) fn mounted_image(mount: &v1::Mount) -> Option<&str> {
    mount.image.as_ref().map(|image| image.image.as_str()).filter(|image| !image.is_empty())
}

fn volume(name: String, mount: &v1::Mount) -> core::Volume {
    if let Some(image) = mounted_image(mount) {
        let image = core::ImageVolumeSource { reference: Some(image.to_owned()), pull_policy: None };
        return core::Volume { name, image: Some(image), ..core::Volume::default() };
    }
    let host_path = core::HostPathVolumeSource { path: mount.host_path.clone(), type_: None };
    core::Volume { name, host_path: Some(host_path), ..core::Volume::default() }
}

fn volume_mount(name: &str, mount: &v1::Mount) -> Result<core::VolumeMount, Status> {
    if mounted_image(mount).is_some() && !mount.readonly {
        return Err(Status::invalid_argument("an image can only be mounted read-only"));
    }
    if mount.recursive_read_only && !mount.readonly {
        return Err(Status::invalid_argument("a mount that is recursively read-only has to be read-only"));
    }
    if mount.recursive_read_only && mount.propagation() != v1::MountPropagation::PropagationPrivate {
        return Err(Status::invalid_argument(
            "a mount that is recursively read-only cannot propagate mounts",
        ));
    }
    let propagation = match mount.propagation() {
        v1::MountPropagation::PropagationPrivate => "None",
        v1::MountPropagation::PropagationHostToContainer => "HostToContainer",
        v1::MountPropagation::PropagationBidirectional => "Bidirectional",
    };
    Ok(core::VolumeMount {
        name: name.to_owned(),
        mount_path: mount.container_path.clone(),
        mount_propagation: Some(propagation.to_owned()),
        read_only: Some(mount.readonly),
        sub_path: Some(mount.image_sub_path.clone()).filter(|path| !path.is_empty()),
        recursive_read_only: mount.recursive_read_only.then(|| "Enabled".to_owned()),
        ..core::VolumeMount::default()
    })
}

fn security_context(config: &v1::ContainerConfig) -> Result<core::SecurityContext, Status> {
    let wanted = security(config);
    let named = !wanted.run_as_username.is_empty();
    if wanted.run_as_group.is_some() && wanted.run_as_user.is_none() && !named {
        return Err(Status::invalid_argument("runAsGroup without runAsUser means nothing"));
    }
    let capabilities = wanted.capabilities.clone().unwrap_or_default();
    let seccomp = wanted.seccomp.as_ref().map(super::pod::seccomp);
    let unconfined = || core::SeccompProfile { type_: "Unconfined".to_owned(), localhost_profile: None };
    Ok(core::SecurityContext {
        allow_privilege_escalation: Some(!wanted.no_new_privs),
        app_armor_profile: super::pod::app_armor(wanted.apparmor.as_ref(), &wanted.apparmor_profile),
        capabilities: Some(core::Capabilities {
            add: Some(capabilities.add_capabilities),
            drop: Some(capabilities.drop_capabilities),
        }),
        privileged: Some(wanted.privileged),
        read_only_root_filesystem: Some(wanted.readonly_rootfs),
        run_as_group: wanted.run_as_group.map(|group| group.value),
        run_as_user: wanted.run_as_user.map(|user| user.value),
        seccomp_profile: Some(seccomp.unwrap_or_else(unconfined)),
        ..core::SecurityContext::default()
    })
}

/// Limits as the runtime takes them.
pub(super) fn resources(
    wanted: &v1::LinuxContainerResources,
    pids: Option<u64>,
    devices: &Devices,
) -> Resources {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let period = positive(wanted.cpu_period).unwrap_or(USUAL_PERIOD.unsigned_abs());
    Resources {
        memory_bytes: positive(wanted.memory_limit_in_bytes),
        cpu_millis: positive(wanted.cpu_quota).map(|quota| (quota * 1000).div_ceil(period)),
        cpu_shares: positive(wanted.cpu_shares),
        pids,
        devices: devices.clone(),
        cpu_period_us: period,
        hugepages: wanted.hugepage_limits.iter().filter_map(hugepages).collect(),
    }
}

/// The size of a page and the limit, in bytes; `None` for a size that is none of the kernel's.
fn hugepages(limit: &v1::HugepageLimit) -> Option<(u64, u64)> {
    let (number, factor) = [("KB", 10), ("MB", 20), ("GB", 30)]
        .into_iter()
        .find_map(|(unit, power)| Some((limit.page_size.strip_suffix(unit)?, 1 << power)))?;
    Some((number.parse::<u64>().ok()?.checked_mul(factor)?, limit.limit))
}

/// What a Pod has no words for is in the plan. `folder` is the sandbox's own.
///
/// # Errors
/// `InvalidArgument` if a capability does not exist.
pub(super) fn complete(
    plan: &mut ContainerPlan,
    config: &v1::ContainerConfig,
    sandbox: &v1::PodSandboxConfig,
    folder: &Path,
    pids: Option<u64>,
) -> Result<(), Status> {
    let wanted = security(config);
    plan.log = log_place(sandbox, config);
    // Who asks mounts a file of his own for this.
    plan.message_path = String::new();
    plan.stop_signal = stop_signal(config.stop_signal());
    let linux = config.linux.clone().unwrap_or_default();
    let limits = linux.resources.clone().unwrap_or_default();
    plan.resources = resources(&limits, pids, &plan.resources.devices);
    if let Some(profile) = wanted.seccomp.as_ref().filter(|_| !wanted.privileged) {
        plan.security.seccomp = seccomp(profile);
    }
    plan.security.strict_groups = wanted.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Strict;
    let namespaces = wanted.namespace_options.clone().unwrap_or_default();
    if namespaces.pid() == v1::NamespaceMode::Target {
        plan.processes_of = Some(namespaces.target_id);
    }
    tie(plan, config, folder);
    set_user(&mut plan.spec, &wanted);
    set_process(&mut plan.spec, &wanted, linux.resources.as_ref())?;
    if let Some(linux) = plan.spec.linux_mut().as_mut().filter(|_| !wanted.privileged) {
        // An empty list is one that was not given: both look the same on the wire.
        if !wanted.masked_paths.is_empty() {
            linux.set_masked_paths(Some(wanted.masked_paths.clone()));
        }
        if !wanted.readonly_paths.is_empty() {
            linux.set_readonly_paths(Some(wanted.readonly_paths.clone()));
        }
    }
    config.devices.iter().try_for_each(|device| super::device::add(plan, device))
}

fn seccomp(profile: &v1::SecurityProfile) -> SeccompProfile {
    match profile.profile_type() {
        ProfileType::RuntimeDefault => SeccompProfile::RuntimeDefault,
        ProfileType::Unconfined => SeccompProfile::Unconfined,
        // Not in the folder that pods of the store are confined to: this client says which file.
        ProfileType::Localhost => SeccompProfile::File(PathBuf::from(&profile.localhost_ref)),
    }
}

/// What is mounted is what the host has there now: the sandbox may be older than that.
fn tie(plan: &mut ContainerPlan, config: &v1::ContainerConfig, folder: &Path) {
    let place = folder.join("shared").join(&plan.name);
    let Some(mounts) = plan.spec.mounts_mut() else { return };
    let of_host = config.mounts.iter().enumerate().filter(|(_, mount)| mounted_image(mount).is_none());
    for (index, wanted) in of_host {
        let at = place.join(index.to_string());
        let to = Path::new(&wanted.container_path);
        let bind = mounts.iter_mut().find(|mount| {
            mount.destination() == to && mount.source().as_ref().is_none_or(|from| !from.starts_with(&place))
        });
        if let Some(bind) = bind {
            bind.set_source(Some(at.clone()));
            plan.ties.push(SharedMount { from: PathBuf::from(&wanted.host_path), at });
        }
    }
}

/// Where the log of a container of the sandbox is.
pub(super) fn log_path(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> Option<PathBuf> {
    let both = !sandbox.log_directory.is_empty() && !config.log_path.is_empty();
    both.then(|| Path::new(&sandbox.log_directory).join(&config.log_path))
}

fn log_place(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> LogPlace {
    log_path(sandbox, config).map_or(LogPlace::Nowhere, LogPlace::File)
}

fn set_user(spec: &mut Spec, wanted: &v1::LinuxContainerSecurityContext) {
    if !wanted.run_as_username.is_empty() {
        let group = wanted.run_as_group.map(|group| format!(":{}", group.value)).unwrap_or_default();
        let user = format!("{}{group}", wanted.run_as_username);
        let annotations = spec.annotations_mut().get_or_insert_default();
        annotations.insert(USER_ANNOTATION.to_owned(), user);
    }
    if let Some(process) = spec.process_mut() {
        let groups = wanted.supplemental_groups.iter().filter_map(|group| u32::try_from(*group).ok());
        let mut user = process.user().clone();
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(groups);
        user.set_additional_gids((!all.is_empty()).then_some(all));
        process.set_user(user);
    }
}

fn set_process(
    spec: &mut Spec,
    wanted: &v1::LinuxContainerSecurityContext,
    resources: Option<&v1::LinuxContainerResources>,
) -> Result<(), Status> {
    let ambient = wanted.capabilities.iter().flat_map(|all| &all.add_ambient_capabilities);
    let ambient = ambient.map(|name| capability(name)).collect::<Result<Capabilities, Status>>()?;
    let Some(process) = spec.process_mut() else { return Ok(()) };
    process.set_no_new_privileges(Some(wanted.no_new_privs));
    let score = resources.map_or(0, |resources| resources.oom_score_adj);
    process.set_oom_score_adj(i32::try_from(score.clamp(-1000, 1000)).ok());
    if !ambient.is_empty() {
        let mut capabilities = process.capabilities().clone().unwrap_or_default();
        add_ambient(&mut capabilities, &ambient);
        process.set_capabilities(Some(capabilities));
    }
    Ok(())
}

/// Whatever is ambient has to be in all other sets too.
fn add_ambient(capabilities: &mut LinuxCapabilities, ambient: &Capabilities) {
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(ambient.iter().copied());
        Some(set)
    };
    let (bounding, effective) = (with(capabilities.bounding()), with(capabilities.effective()));
    let (permitted, inheritable) = (with(capabilities.permitted()), with(capabilities.inheritable()));
    let own = with(capabilities.ambient());
    capabilities
        .set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted)
        .set_inheritable(inheritable)
        .set_ambient(own);
}

fn capability(name: &str) -> Result<Capability, Status> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    short.parse().map_err(|_| Status::invalid_argument(format!("there is no capability {name}")))
}

/// The signal by its number in the interface's order; `None` for what the image says.
fn stop_signal(signal: v1::Signal) -> Option<String> {
    const FIRST_REALTIME: i32 = 34;
    const LAST_REALTIME: i32 = 64;
    let name = signal.as_str_name();
    if let Some(offset) = name.strip_prefix("SIGRTMIN") {
        let offset: i32 = offset.strip_prefix("PLUS").map_or(Ok(0), str::parse).ok()?;
        return Some((FIRST_REALTIME + offset).to_string());
    }
    if let Some(offset) = name.strip_prefix("SIGRTMAX") {
        let offset: i32 = offset.strip_prefix("MINUS").map_or(Ok(0), str::parse).ok()?;
        return Some((LAST_REALTIME - offset).to_string());
    }
    #[allow(clippy::wildcard_enum_match_arm, reason = "all others have their usual names")]
    match signal {
        v1::Signal::RuntimeDefault => None,
        // Other names of the same.
        v1::Signal::Sigcld => Some("SIGCHLD".to_owned()),
        v1::Signal::Sigiot => Some("SIGABRT".to_owned()),
        v1::Signal::Sigpoll => Some("SIGIO".to_owned()),
        _ => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_they_are() {
        let config = v1::ContainerConfig { args: vec!["$(HOME) $$".into()], ..Default::default() };
        let (container, _) = container("id", &config).expect("a container");
        assert_eq!(container.args, Some(vec!["$$(HOME) $$$$".to_owned()]));
    }

    #[test]
    fn a_quota_is_a_share_of_its_period() {
        let wanted = |cpu_quota, cpu_period| {
            let wanted = v1::LinuxContainerResources { cpu_quota, cpu_period, ..Default::default() };
            resources(&wanted, None, &Devices::All).cpu_millis
        };
        assert_eq!(wanted(50_000, 100_000), Some(500));
        assert_eq!(wanted(50_000, 0), Some(500));
        assert_eq!(wanted(-1, 100_000), None);
        assert_eq!(wanted(10_000, 20_000), Some(500));
    }

    #[test]
    fn signals_have_their_numbers_and_names() {
        assert_eq!(stop_signal(v1::Signal::RuntimeDefault), None);
        assert_eq!(stop_signal(v1::Signal::Sigusr1).as_deref(), Some("SIGUSR1"));
        assert_eq!(stop_signal(v1::Signal::Sigrtminplus3).as_deref(), Some("37"));
        assert_eq!(stop_signal(v1::Signal::Sigrtmaxminus1).as_deref(), Some("63"));
        assert_eq!(stop_signal(v1::Signal::Sigrtmax).as_deref(), Some("64"));
    }

    #[test]
    fn a_group_needs_a_user() {
        let group = |run_as_user| v1::ContainerConfig {
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    run_as_group: Some(v1::Int64Value { value: 5 }),
                    run_as_user,
                    ..Default::default()
                }),
                resources: None,
            }),
            ..Default::default()
        };
        assert!(container("id", &group(None)).is_err());
        assert!(container("id", &group(Some(v1::Int64Value { value: 1 }))).is_ok());
    }
}
