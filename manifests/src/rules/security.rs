//! Who a container runs as, and what it may do.

use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};

/// The largest user or group id that Kubernetes accepts.
const MAX_ID: i64 = i32::MAX as i64;

pub(super) fn pod(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let message = "a pod with hostPID has no process namespace to share";
        report.error(&at.field("shareProcessNamespace"), "not-allowed", message);
    }
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
    let list = at.field("supplementalGroups");
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        report.between(&list.index(index), Some(*group), 0, MAX_ID);
    }
}

pub(super) fn container(context: &SecurityContext, at: &Path<'_>, report: &mut Report<'_>) {
    report.between(&at.field("runAsUser"), context.run_as_user, 0, MAX_ID);
    report.between(&at.field("runAsGroup"), context.run_as_group, 0, MAX_ID);
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
