//! The OCI specification of one container.

use super::args::args;
use super::build::PodInput;
use super::capability::capabilities;
use super::env;
use super::error::Cause;
use super::mounts::mounts;
use super::resource::oom_score_adj;
use super::sysctl;
use super::user::run_as;
use crate::image::{Image, ImageConfig};
use crate::status::qos_class;
use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::{Linux, Process, Root, Spec};
use std::collections::HashMap;
use std::path::PathBuf;

/// The annotation with a user, or `user:group`, that must be looked up in the
/// container's own `/etc/passwd` and `/etc/group`.
pub const USER_ANNOTATION: &str = "evenkeel.dev/user";
/// The annotation with the image's stop signal, as the OCI image specification names it.
pub const STOP_SIGNAL_ANNOTATION: &str = "org.opencontainers.image.stopSignal";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As containerd masks them.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// As containerd has them.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The specification of `container`, all but its root's path and namespaces.
///
/// # Errors
/// Whatever keeps the container from being described; see [`Cause`].
pub(super) fn spec(container: &Container, image: &Image, input: &PodInput<'_>) -> Result<Spec, Cause> {
    let context = container.security_context.as_ref();
    let pod_context = input.spec().and_then(|spec| spec.security_context.as_ref());
    let vars = env::of_pod(container, input)?;
    let who = run_as(context, pod_context, &image.config.user)?;
    let mut annotations = HashMap::new();
    annotations.extend(who.unresolved.map(|user| (USER_ANNOTATION.to_owned(), user)));
    let signal = image.config.stop_signal.clone();
    annotations.extend(signal.map(|signal| (STOP_SIGNAL_ANNOTATION.to_owned(), signal)));

    let mut process = Process::default();
    process
        .set_terminal(Some(container.tty == Some(true)))
        .set_user(who.user)
        .set_args(Some(args(container, &image.config, &vars)?))
        .set_cwd(working_dir(container, &image.config))
        .set_capabilities(Some(capabilities(context)?))
        .set_rlimits(None)
        .set_no_new_privileges(Some(context.and_then(|c| c.allow_privilege_escalation) == Some(false)))
        .set_oom_score_adj(oom_score_adj(container, qos_class(input.pod), input.node)?);
    let mut root = Root::default();
    root.set_path(PathBuf::new());
    root.set_readonly(Some(context.and_then(|c| c.read_only_root_filesystem) == Some(true)));

    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_mounts(Some(mounts(container, &vars, input)?))
        .set_hostname(Some(input.kernel_hostname()?))
        .set_annotations((!annotations.is_empty()).then_some(annotations))
        .set_linux(Some(linux(container, input)?));
    let base = [("PATH", DEFAULT_PATH.to_owned()), ("HOSTNAME", input.kernel_hostname()?)];
    process.set_env(Some(vars.over(&base, &image.config.env)));
    spec.set_process(Some(process));
    Ok(spec)
}

fn working_dir(container: &Container, image: &ImageConfig) -> PathBuf {
    let own = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = own.unwrap_or(if image.working_dir.is_empty() { "/" } else { &image.working_dir });
    // Images may have it without the leading slash; the kernel would take that from anywhere.
    if dir.starts_with('/') { dir.into() } else { PathBuf::from("/").join(dir) }
}

fn linux(container: &Container, input: &PodInput<'_>) -> Result<Linux, Cause> {
    let context = container.security_context.as_ref();
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    let unmasked = context.and_then(|context| context.proc_mount.as_deref()) == Some("Unmasked");
    let sysctls = sysctl::of_pod(input)?;
    let paths = |list: &[&str]| {
        let hidden = !privileged && !unmasked;
        hidden.then(|| list.iter().map(|&path| path.to_owned()).collect::<Vec<_>>())
    };
    let mut linux = Linux::default();
    linux
        .set_namespaces(None)
        .set_resources(None)
        .set_sysctl((!sysctls.is_empty()).then_some(sysctls))
        .set_masked_paths(paths(&MASKED))
        .set_readonly_paths(paths(&READ_ONLY));
    Ok(linux)
}
