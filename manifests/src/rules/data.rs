//! ConfigMaps and Secrets.

use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

/// All values of one object, in bytes.
const MAX_DATA: usize = 1 << 20;

pub(super) fn config_map(map: &ConfigMap, report: &mut Report<'_>) {
    let (data, binary) = (Path::ROOT.field("data"), Path::ROOT.field("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        report.key(&data.key(key), names::data_key);
        size += value.len();
        if map.binary_data.as_ref().is_some_and(|b| b.contains_key(key)) {
            let message = format!("key `{key}` stands in both data and binaryData");
            report.error(&binary.key(key), "duplicate-key", message);
        }
    }
    for (key, value) in map.binary_data.iter().flatten() {
        report.key(&binary.key(key), names::data_key);
        size += value.0.len();
    }
    too_large(size, &data, report);
}

/// `stringData` is in `data` by now, so a key is looked up where it was written.
pub(super) fn secret(secret: &Secret, report: &mut Report<'_>) {
    let (data, strings) = (Path::ROOT.field("data"), Path::ROOT.field("stringData"));
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        if names::data_key(key).is_err() {
            let written = strings.key(key);
            let at = if report.is_written(&written) { written } else { data.key(key) };
            report.key(&at, names::data_key);
        }
        size += value.0.len();
    }
    too_large(size, &data, report);
    let needed: &[&str] = match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    let has = |key: &str| secret.data.as_ref().is_some_and(|d| d.contains_key(key));
    for key in needed {
        if !has(key) {
            let message = format!("a Secret of this type needs the key `{key}`");
            report.error(&data.key(key), "missing-field", message);
        }
    }
    if secret.type_.as_deref() == Some("kubernetes.io/basic-auth") && !has("username") && !has("password") {
        report.error(&data, "missing-field", "a Secret of this type needs the key `username` or `password`");
    }
}

fn too_large(size: usize, at: &Path<'_>, report: &mut Report<'_>) {
    if size > MAX_DATA {
        report.error(at, "too-large", format!("the values have {size} bytes; at most {MAX_DATA} are kept"));
    }
}
