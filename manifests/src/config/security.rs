//! What pods may do on a node. The words are those of the kubelet's configuration.

use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What pods may do on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityConfiguration {
    /// Containers that name no seccomp profile have `RuntimeDefault`; without, they are unconfined.
    pub seccomp_default: bool,
    /// The folder of the profiles that `localhostProfile` names; `<stateDir>/seccomp` if empty.
    pub seccomp_profile_root: PathBuf,
    /// Kernel parameters beyond the safe ones that pods may set: a name, or its beginning and `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Over how long a limit of CPU is counted, as `100ms`; from 1 ms to 1 s.
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: String,
}

impl Default for SecurityConfiguration {
    fn default() -> Self {
        Self {
            seccomp_default: true,
            seccomp_profile_root: PathBuf::new(),
            allowed_unsafe_sysctls: Vec::new(),
            cpu_cfs_quota_period: "100ms".into(),
        }
    }
}

impl SecurityConfiguration {
    /// Over how many microseconds a limit of CPU is counted.
    #[must_use]
    pub fn cpu_period_us(&self) -> u64 {
        let period = crate::duration::parse(&self.cpu_cfs_quota_period);
        period.and_then(|period| u64::try_from(period.as_micros()).ok()).unwrap_or(100_000)
    }

    /// The folder of seccomp profiles.
    #[must_use]
    pub fn profiles(&self, state_dir: &std::path::Path) -> PathBuf {
        if self.seccomp_profile_root.as_os_str().is_empty() {
            state_dir.join("seccomp")
        } else {
            self.seccomp_profile_root.clone()
        }
    }
}

/// Kernel parameters that a pod can have for itself begin so.
const NAMESPACED: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

pub(super) fn check(security: &SecurityConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let root = &security.seccomp_profile_root;
    if !root.as_os_str().is_empty() && !root.is_absolute() {
        let message = "the folder of seccomp profiles must be an absolute path";
        report.error(&at.field("seccompProfileRoot"), "bad-path", message);
    }
    let period = crate::duration::parse(&security.cpu_cfs_quota_period);
    if !period.is_some_and(|period| (1..=1000).contains(&period.as_millis())) {
        let message = "the period must be a duration from 1ms to 1s";
        report.error(&at.field("cpuCFSQuotaPeriod"), "out-of-range", message);
    }
    let list = at.field("allowedUnsafeSysctls");
    for (index, pattern) in security.allowed_unsafe_sysctls.iter().enumerate() {
        let dotted = pattern.replace('/', ".");
        let name = dotted.strip_suffix('*').unwrap_or(&dotted);
        if !NAMESPACED.iter().any(|prefix| name.starts_with(prefix)) || name.contains('*') {
            let message = format!("`{pattern}` is no kernel parameter that a pod can have for itself");
            let help =
                Some(format!("those begin with {}, and `*` may stand at the end", NAMESPACED.join(", ")));
            report.error_with(&list.index(index), "bad-value", message, help);
        }
    }
}
