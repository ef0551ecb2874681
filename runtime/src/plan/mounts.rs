//! What is mounted in a container beside its root.

use super::SharedMount;
use super::build::PodInput;
use super::env::{self, Env};
use super::error::Cause;
use super::expand::expand;
use super::file_variable;
use crate::volume::{self, etc};
use k8s_openapi::api::core::v1::{Container, VolumeMount};
use oci_spec::runtime::Mount;
use std::path::{Component, Path, PathBuf};

/// The option that names the volume's root when a mount's source is a path in
/// the volume: whoever mounts it must resolve the rest beneath that root, as
/// the pod itself may have put a symbolic link there.
pub const BENEATH_OPTION: &str = "x-evenkeel.beneath=";

/// Every mount of `container`, parents before what is under them.
///
/// # Errors
/// If a volume is not there or not of a supported kind, or a `subPath` is bad.
pub(super) fn mounts(container: &Container, env: &Env, input: &PodInput<'_>) -> Result<Vec<Mount>, Cause> {
    let privileged = container.security_context.as_ref().and_then(|c| c.privileged) == Some(true);
    let wanted = container.volume_mounts.iter().flatten();
    let volumes = wanted.map(|mount| volume_mount(mount, env, input)).collect::<Result<Vec<_>, _>>()?;
    let covered = |mount: &Mount| volumes.iter().any(|volume| volume.destination() == mount.destination());
    let mut all: Vec<Mount> = kernel_mounts(privileged);
    all.extend(pod_mounts(input));
    all.retain(|mount| !covered(mount));
    all.extend(volumes);
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok(all)
}

fn mount(destination: &str, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn kernel_mounts(privileged: bool) -> Vec<Mount> {
    let kernel = |at: &str, typ: &str, options: &[&str]| mount(at, typ, Path::new(typ), options);
    let access = if privileged { "rw" } else { "ro" };
    vec![
        kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        kernel("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        kernel(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        kernel("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

/// What the containers of a pod share: names, addresses, and shared memory.
fn pod_mounts(input: &PodInput<'_>) -> Vec<Mount> {
    let folder = input.pod_dir();
    let host_ipc = input.spec().and_then(|spec| spec.host_ipc) == Some(true);
    let memory = if host_ipc { PathBuf::from("/dev/shm") } else { shared_memory(&folder) };
    let mut all =
        vec![mount("/dev/shm", "bind", &memory, &["rbind", "rprivate", "nosuid", "noexec", "nodev"])];
    for (file, at) in
        [(etc::HOSTS, "/etc/hosts"), (etc::HOSTNAME, "/etc/hostname"), (etc::RESOLV_CONF, "/etc/resolv.conf")]
    {
        all.push(mount(at, "bind", &folder.join(file), &["rbind", "rprivate", "rw"]));
    }
    all
}

/// Where the pod's `/dev/shm` is mounted: one for all of its containers, as
/// they share their IPC namespace.
pub(super) fn shared_memory(pod_dir: &Path) -> PathBuf {
    pod_dir.join("shm")
}

fn volume_mount(wanted: &VolumeMount, env: &Env, input: &PodInput<'_>) -> Result<Mount, Cause> {
    let volumes = input.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let volume = volumes
        .iter()
        .find(|volume| volume.name == wanted.name)
        .ok_or_else(|| Cause::VolumeNotFound { name: wanted.name.clone() })?;
    let root = volume::path(&input.pod_dir(), volume)
        .ok_or_else(|| Cause::Unsupported { feature: format!("the kind of volume \"{}\"", volume.name) })?;
    let shared = is_bidirectional(wanted) && !volume.empty_dir.as_ref().is_some_and(volume::is_in_memory);
    let root = if shared { shared_at(&input.pod_dir(), &volume.name) } else { root };
    let read_only = wanted.read_only == Some(true) || volume::is_read_only(volume);
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    };
    let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    let access = match (read_only, recursive) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let sub_path = sub_path(wanted, env)?;
    let source = sub_path.as_ref().map_or_else(|| root.clone(), |path| root.join(path));
    let mut bind = mount(&wanted.mount_path, "bind", &source, &["rbind", propagation, access]);
    if let Some(options) = bind.options_mut() {
        options.extend(wanted.bind_mount_options.iter().flatten().cloned());
        if sub_path.is_some() {
            options.push(format!("{BENEATH_OPTION}{}", root.display()));
        }
    }
    Ok(bind)
}

fn is_bidirectional(mount: &VolumeMount) -> bool {
    mount.mount_propagation.as_deref() == Some("Bidirectional")
}

/// True if a container of the pod mounts the volume so that its own mounts in it are seen elsewhere.
pub(crate) fn bidirectional(input: &PodInput<'_>, volume: &str) -> bool {
    let spec = input.spec();
    let containers = spec.into_iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
    });
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    mounts.any(|mount| mount.name == volume && is_bidirectional(mount))
}

/// Where the supervisor keeps a volume of the host that mounts go both ways in.
fn shared_at(pod_dir: &Path, volume: &str) -> PathBuf {
    pod_dir.join("shared").join(volume)
}

/// The volumes on disk that mounts go both ways in.
pub(super) fn shared(input: &PodInput<'_>) -> Vec<SharedMount> {
    let pod_dir = input.pod_dir();
    let volumes = input.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let on_disk =
        volumes.iter().filter(|volume| !volume.empty_dir.as_ref().is_some_and(volume::is_in_memory));
    let shared = on_disk.filter(|volume| bidirectional(input, &volume.name));
    let made = shared.filter_map(|volume| {
        let from = volume::path(&pod_dir, volume)?;
        Some(SharedMount { from, at: shared_at(&pod_dir, &volume.name) })
    });
    made.collect()
}

/// The path in the volume that `mount` wants, if not its root.
///
/// # Errors
/// If it is absolute, or has `..`, or refers to a variable that is not set.
fn sub_path(mount: &VolumeMount, env: &Env) -> Result<Option<PathBuf>, Cause> {
    let text = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expression), _) if !expression.is_empty() => {
            let mut missing = None;
            let text = expand(expression, |name| {
                let value = env.get(name).map(str::to_owned);
                if value.is_none() {
                    missing.get_or_insert_with(|| name.to_owned());
                }
                value
            });
            match missing {
                Some(name) => return Err(Cause::MissingVariable { name, expression: expression.clone() }),
                None => text,
            }
        }
        (_, Some(path)) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    let path = PathBuf::from(&text);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.components().all(inside) && !text.is_empty() && !file_variable::is_marked(&text) {
        Ok(Some(path.components().filter(|part| !matches!(part, Component::CurDir)).collect()))
    } else {
        Err(Cause::BadSubPath { path: text })
    }
}

/// Every `subPath` of the pod with its volume's name.
///
/// # Errors
/// The first one that has no value, with its volume's name.
pub(crate) fn sub_paths(input: &PodInput<'_>) -> Result<Vec<(String, PathBuf)>, (String, Cause)> {
    let Some(spec) = input.spec() else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let mounts = container.volume_mounts.iter().flatten();
        let with_path = |mount: &&VolumeMount| mount.sub_path.is_some() || mount.sub_path_expr.is_some();
        for mount in mounts.filter(with_path) {
            let named = |cause| (mount.name.clone(), cause);
            let env = env::of_pod(container, input).map_err(named)?;
            all.extend(sub_path(mount, &env).map_err(named)?.map(|path| (mount.name.clone(), path)));
        }
    }
    Ok(all)
}
