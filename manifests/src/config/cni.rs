//! Networks that other programs make: the Container Network Interface.

use crate::duration;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long a plugin may take, if it is not said. That of the kubelet for a sandbox is 4 min.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether other programs make the network of the node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CniMode {
    /// If there is a network for them; those of podman and nerdctl are none.
    Auto,
    /// Pods wait for one; the first is taken, whose ever it is.
    Always,
    /// The network is built in.
    Never,
}

impl CniMode {
    const ALL: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

/// Plugins of the Container Network Interface that make the pods' network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CniConfiguration {
    /// `auto`: if there is a network for pods in `confDir`; `always`; `never`.
    pub mode: String,
    /// Holds the networks: the first `*.conf`, `*.conflist` or `*.json` by name is taken.
    pub conf_dir: PathBuf,
    /// Hold the plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// How long one plugin may take, as `2m`.
    pub timeout: String,
}

impl Default for CniConfiguration {
    fn default() -> Self {
        Self {
            mode: "auto".into(),
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"].map(PathBuf::from).into(),
            timeout: "2m".into(),
        }
    }
}

impl CniConfiguration {
    /// `mode`, once the configuration is checked.
    #[must_use]
    pub fn mode(&self) -> CniMode {
        let known = CniMode::ALL.iter().find(|(name, _)| *name == self.mode);
        known.map_or(CniMode::Never, |(_, mode)| *mode)
    }

    /// `timeout`, once the configuration is checked.
    #[must_use]
    pub fn plugin_timeout(&self) -> Duration {
        duration::parse(&self.timeout).unwrap_or(TIMEOUT)
    }
}

pub(super) fn check(cni: &CniConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    report.one_of(&at.field("mode"), Some(&cni.mode), &CniMode::ALL.map(|(name, _)| name));
    if !cni.conf_dir.is_absolute() {
        report.error(&at.field("confDir"), "bad-path", "this must be an absolute path");
    }
    let list = at.field("binDirs");
    if cni.bin_dirs.is_empty() {
        report.error(&list, "missing-field", "plugins need at least one folder to be in");
    }
    for (index, folder) in cni.bin_dirs.iter().enumerate() {
        // What plugins are given is a list with colons between.
        if !folder.is_absolute() || folder.to_string_lossy().contains(':') {
            report.error(&list.index(index), "bad-path", "this must be an absolute path without a colon");
        }
    }
    if duration::parse(&cni.timeout).is_none_or(|timeout| timeout < Duration::from_secs(1)) {
        let message = format!("`{}` is no time of at least a second", cni.timeout);
        report.error_with(
            &at.field("timeout"),
            "bad-duration",
            message,
            Some("write it as `30s` or `2m`".into()),
        );
    }
}
