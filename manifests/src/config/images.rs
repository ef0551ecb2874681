//! Where images come from, and when unused ones go.

use crate::duration;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// Images of this node. The names of the limits are those of `KubeletConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImagesConfiguration {
    /// Registries that are not reached in the usual way.
    pub registries: Vec<RegistryConfiguration>,
    /// Docker's `config.json` with the node's own credentials; read at each pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// In a cluster, layers are kept as they came too, to be given to peers, and peers are asked for
    /// them before the registry is.
    pub share_with_peers: bool,
    /// Images that are pulled at once, at least 1.
    pub max_parallel_image_pulls: u32,
    /// An unused image stays for so long, as `2m`.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: String,
    /// When the disk is so full, unused images go. 100 keeps them all.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u32,
    /// They go until the disk is only so full.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u32,
}

impl Default for ImagesConfiguration {
    fn default() -> Self {
        Self {
            registries: Vec::new(),
            credentials_file: None,
            share_with_peers: true,
            max_parallel_image_pulls: 3,
            image_minimum_gc_age: "2m".into(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
        }
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryConfiguration {
    /// As in references: `docker.io`, `registry.example.com:5000`.
    pub host: String,
    /// Asked in this order before the registry itself.
    #[serde(default)]
    pub mirrors: Vec<RegistryMirror>,
    /// HTTP without TLS.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// PEM file with authorities to trust beside the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    #[serde(default, rename = "skipTLSVerify")]
    pub skip_tls_verify: bool,
}

/// Another place that has a registry's images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryMirror {
    /// `HOST[:PORT]`.
    pub host: String,
    /// HTTP without TLS.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// PEM file with authorities to trust beside the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    #[serde(default, rename = "skipTLSVerify")]
    pub skip_tls_verify: bool,
}

impl ImagesConfiguration {
    /// `imageMinimumGCAge` as a duration.
    #[must_use]
    pub fn minimum_age(&self) -> Duration {
        duration::parse(&self.image_minimum_gc_age).unwrap_or(Duration::from_secs(120))
    }
}

pub(super) fn check(images: &ImagesConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let list = at.field("registries");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, registry) in images.registries.iter().enumerate() {
        let at = list.index(index);
        host(&registry.host, &at.field("host"), report);
        if let Some(first) = seen.insert(&registry.host, index) {
            let first = list.index(first);
            report.duplicate(&at.field("host"), "registry", &registry.host, &first.field("host"));
        }
        let mirrors = at.field("mirrors");
        for (index, mirror) in registry.mirrors.iter().enumerate() {
            let at = mirrors.index(index);
            host(&mirror.host, &at.field("host"), report);
        }
    }
    report.between(&at.field("maxParallelImagePulls"), Some(images.max_parallel_image_pulls), 1, 1000);
    let (high, low) = (images.image_gc_high_threshold_percent, images.image_gc_low_threshold_percent);
    report.between(&at.field("imageGCHighThresholdPercent"), Some(high), 0, 100);
    report.between(&at.field("imageGCLowThresholdPercent"), Some(low), 0, 100);
    if low >= high {
        let message = format!("the low threshold must be below the high one, {high}");
        report.error(&at.field("imageGCLowThresholdPercent"), "out-of-range", message);
    }
    if duration::parse(&images.image_minimum_gc_age).is_none() {
        let help = Some("write it as `2m`, `1h30m`".to_owned());
        let message = format!("`{}` is no duration", images.image_minimum_gc_age);
        report.error_with(&at.field("imageMinimumGCAge"), "bad-duration", message, help);
    }
}

fn host(text: &str, at: &Path<'_>, report: &mut Report<'_>) {
    let right = crate::image::is_host(text);
    if !right {
        let help = text.split_once("://").map(|(_, rest)| format!("write it without a scheme: `{rest}`"));
        report.error_with(at, "bad-name", format!("`{text}` is no name of a registry"), help);
    }
}
