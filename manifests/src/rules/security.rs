//! Who a container runs as, and what it may do.

use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What an annotation of a pod begins with that names a container's profile.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// The largest user or group id that Kubernetes accepts.
const MAX_ID: i64 = i32::MAX as i64;

pub(super) fn pod(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let message = "a pod with hostPID has no process namespace to share";
        report.error(&at.field("shareProcessNamespace"), "not-allowed", message);
    }
    if spec.host_users == Some(false) {
        let namespaces =
            [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
        for (field, host) in namespaces {
            if host == Some(true) {
                let message = "a pod with users of its own (hostUsers: false) has no namespace of the host's";
                report.error(&at.field(field), "not-allowed", message);
            }
        }
    }
    unmasked(spec, at, report);
    let Some(context) = &spec.security_context else { return };
    let at = at.field("securityContext");
    let ids = [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ];
    for (field, id) in ids {
        report.between(&at.field(field), id, 0, MAX_ID);
    }
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), &at, report);
    let policies = ["Merge", "Strict"];
    let policy = context.supplemental_groups_policy.as_deref();
    report.one_of(&at.field("supplementalGroupsPolicy"), policy, &policies);
    let list = at.field("supplementalGroups");
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        report.between(&list.index(index), Some(*group), 0, MAX_ID);
    }
}

/// Who sees all of `/proc` must be nobody on the host.
fn unmasked(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.host_users == Some(false) {
        return;
    }
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (field, list) in [("initContainers", init), ("containers", spec.containers.as_slice())] {
        let at = at.field(field);
        for (index, container) in list.iter().enumerate() {
            let context = container.security_context.as_ref();
            if context.and_then(|context| context.proc_mount.as_deref()) == Some("Unmasked") {
                let at = at.index(index);
                let message = "procMount Unmasked needs a pod with users of its own (hostUsers: false)";
                report.error(&at.field("securityContext.procMount"), "not-allowed", message);
            }
        }
    }
}

pub(super) fn container(context: &SecurityContext, at: &Path<'_>, report: &mut Report<'_>) {
    report.between(&at.field("runAsUser"), context.run_as_user, 0, MAX_ID);
    report.between(&at.field("runAsGroup"), context.run_as_group, 0, MAX_ID);
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), at, report);
    report.one_of(&at.field("procMount"), context.proc_mount.as_deref(), &["Default", "Unmasked"]);
    if context.allow_privilege_escalation == Some(false) {
        let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        if context.privileged == Some(true) {
            let message = "a privileged container can always gain privileges";
            report.error(&at.field("allowPrivilegeEscalation"), "not-allowed", message);
        } else if added.into_iter().any(|c| c == "CAP_SYS_ADMIN") {
            let message = "a container with CAP_SYS_ADMIN can always gain privileges";
            report.error(&at.field("allowPrivilegeEscalation"), "not-allowed", message);
        }
    }
    let Some(capabilities) = &context.capabilities else { return };
    let at = at.field("capabilities");
    for (field, list) in [("add", &capabilities.add), ("drop", &capabilities.drop)] {
        let at = at.field(field);
        for (index, name) in list.iter().flatten().enumerate() {
            let short = name.strip_prefix("CAP_").unwrap_or(name);
            if short != "ALL" && !CAPABILITIES.contains(&short) {
                let help = crate::suggest::did_you_mean(short, CAPABILITIES);
                let message = format!("Linux has no capability `{name}`");
                report.error_with(&at.index(index), "bad-value", message, help);
            }
        }
    }
}

/// What `annotations`, at `at`, say of AppArmor for the containers of `spec`.
pub(super) fn annotations(meta: Option<&ObjectMeta>, spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let at = at.field("annotations");
    let names = || {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).map(|container| container.name.as_str())
    };
    for (key, word) in meta.and_then(|meta| meta.annotations.as_ref()).into_iter().flatten() {
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        let at = at.key(key);
        if !names().any(|name| name == container) {
            let help = crate::suggest::did_you_mean(container, names());
            let message = format!("the pod has no container `{container}`");
            report.error_with(&at, "unknown-annotation", message, help);
        }
        let is_local = word.strip_prefix("localhost/").is_some_and(|name| !name.is_empty());
        if !is_local && !["runtime/default", "unconfined"].contains(&word.as_str()) {
            let message = "must be `runtime/default`, `unconfined` or `localhost/<profile>`";
            report.error(&at, "bad-value", message);
        }
    }
}

fn profiles(
    seccomp: Option<&SeccompProfile>,
    apparmor: Option<&AppArmorProfile>,
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    let given = [
        ("seccompProfile", seccomp.map(|one| (&one.type_, &one.localhost_profile))),
        ("appArmorProfile", apparmor.map(|one| (&one.type_, &one.localhost_profile))),
    ];
    for (field, profile) in given {
        let Some((kind, name)) = profile else { continue };
        let at = at.field(field);
        report.one_of(&at.field("type"), Some(kind), &["Localhost", "RuntimeDefault", "Unconfined"]);
        let named = name.as_ref().is_some_and(|name| !name.is_empty());
        match (kind.as_str(), named) {
            ("Localhost", false) => {
                report.error(&at, "missing-field", "type Localhost needs a `localhostProfile`");
            }
            ("RuntimeDefault" | "Unconfined", true) => {
                let message = "only type Localhost takes a `localhostProfile`";
                report.error(&at.field("localhostProfile"), "not-allowed", message);
            }
            _ => {}
        }
        let leads_out = |name: &str| name.starts_with('/') || name.split('/').any(|part| part == "..");
        if field == "seccompProfile" && name.as_deref().is_some_and(leads_out) {
            let message = "the profile is a path below the node's folder of profiles, without `..`";
            report.error(&at.field("localhostProfile"), "bad-path", message);
        }
    }
}

const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
