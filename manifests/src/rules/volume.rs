//! Volumes.

use crate::image::Reference;
use crate::names;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource,
    Volume,
};
use std::collections::HashMap;

/// What a service account token may live for, in seconds.
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

pub(super) fn check(volumes: &[Volume], at: &Path<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = at.index(index);
        report.name(&path.field("name"), &volume.name, names::label);
        if !volume.name.is_empty()
            && let Some(first) = seen.insert(&volume.name, index)
        {
            report.duplicate(&path.field("name"), "volume", &volume.name, &at.index(first).field("name"));
        }
        sources(&path, report);
        source(volume, &path, report);
    }
}

/// A volume has one source; without any, Kubernetes makes it an emptyDir.
fn sources(at: &Path<'_>, report: &mut Report<'_>) {
    let written: Vec<String> = report.keys(at).into_iter().filter(|k| k != "name").collect();
    match &written[..] {
        [] => {
            let help = Some("write `emptyDir: {}` if that is what is meant".to_owned());
            report.warn_with(at, "no-volume-source", "the volume has no source, so it is an emptyDir", help);
        }
        [_] => {}
        [_, second, ..] => {
            let message = format!("a volume has one source only; here are {}", written.join(" and "));
            report.error(&at.field(second), "several-volume-sources", message);
        }
    }
}

fn source(volume: &Volume, at: &Path<'_>, report: &mut Report<'_>) {
    if let Some(source) = &volume.host_path {
        host_path(source, &at.field("hostPath"), report);
    }
    if let Some(source) = &volume.empty_dir {
        empty_dir(source, &at.field("emptyDir"), report);
    }
    if let Some(source) = &volume.image {
        let at = at.field("image");
        let reference = source.reference.as_deref().unwrap_or_default();
        match Reference::parse(reference) {
            Ok(Reference::Host) => {
                report.error(
                    &at.field("reference"),
                    "bad-image",
                    "the host's root is no volume; use a hostPath",
                );
            }
            Ok(_) => {}
            Err(error) => {
                report.error(&at.field("reference"), "bad-image", format!("`{reference}`: {error}"));
            }
        }
        report.one_of(
            &at.field("pullPolicy"),
            source.pull_policy.as_deref(),
            &["Always", "IfNotPresent", "Never"],
        );
    }
    if let Some(source) = &volume.config_map {
        let at = at.field("configMap");
        report.name(&at.field("name"), &source.name, names::subdomain);
        files(source.items.as_deref(), source.default_mode, &at, report);
    }
    if let Some(source) = &volume.secret {
        let at = at.field("secret");
        match source.secret_name.as_deref().unwrap_or_default() {
            "" => report.error(&at, "missing-field", "field `secretName` is missing"),
            name => report.name(&at.field("secretName"), name, names::subdomain),
        }
        files(source.items.as_deref(), source.default_mode, &at, report);
    }
    if let Some(source) = &volume.downward_api {
        let at = at.field("downwardAPI");
        file_mode(source.default_mode, &at.field("defaultMode"), report);
        downward(source.items.as_deref(), &at, report);
    }
    if let Some(source) = &volume.projected {
        projected(source, &at.field("projected"), report);
    }
}

/// Files from several sources in one folder.
fn projected(source: &ProjectedVolumeSource, at: &Path<'_>, report: &mut Report<'_>) {
    file_mode(source.default_mode, &at.field("defaultMode"), report);
    let list = at.field("sources");
    for (index, one) in source.sources.iter().flatten().enumerate() {
        let at = list.index(index);
        let written = report.keys(&at);
        if let [_, second, ..] = &written[..] {
            let message = format!("a source is one thing only; here are {}", written.join(" and "));
            report.error(&at.field(second), "several-volume-sources", message);
        }
        if let Some(map) = &one.config_map {
            let at = at.field("configMap");
            report.name(&at.field("name"), &map.name, names::subdomain);
            files(map.items.as_deref(), None, &at, report);
        }
        if let Some(secret) = &one.secret {
            let at = at.field("secret");
            report.name(&at.field("name"), &secret.name, names::subdomain);
            files(secret.items.as_deref(), None, &at, report);
        }
        if let Some(source) = &one.downward_api {
            downward(source.items.as_deref(), &at.field("downwardAPI"), report);
        }
        if let Some(token) = &one.service_account_token {
            let at = at.field("serviceAccountToken");
            let (least, most) = (MIN_TOKEN_SECONDS, MAX_TOKEN_SECONDS);
            report.between(&at.field("expirationSeconds"), token.expiration_seconds, least, most);
            file_path(&token.path, &at.field("path"), report);
        }
        if one.cluster_trust_bundle.is_some() || one.pod_certificate.is_some() {
            let message = "certificates are not issued here; the pod waits for them";
            report.warn_with(&at, "no-effect-yet", message, None);
        }
    }
}

/// The pod's own fields as files.
fn downward(items: Option<&[DownwardAPIVolumeFile]>, at: &Path<'_>, report: &mut Report<'_>) {
    const FIELDS: [&str; 5] =
        ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"];
    let list = at.field("items");
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        file_path(&item.path, &at.field("path"), report);
        file_mode(item.mode, &at.field("mode"), report);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => {
                let path = field.field_path.as_str();
                let subscript = path.ends_with("']")
                    && ["metadata.labels['", "metadata.annotations['"]
                        .iter()
                        .any(|map| path.starts_with(map));
                if !subscript {
                    report.one_of(&at.field("fieldRef.fieldPath"), Some(path), &FIELDS);
                }
            }
            (None, Some(resource)) => {
                let name = resource.container_name.as_deref().unwrap_or_default();
                report.not_empty(&at.field("resourceFieldRef.containerName"), name);
            }
            (None, None) => {
                report.error(&at, "missing-field", "one of fieldRef and resourceFieldRef is missing");
            }
            (Some(_), Some(_)) => {
                report.error(&at, "not-allowed", "at most one of fieldRef and resourceFieldRef");
            }
        }
    }
}

fn host_path(source: &HostPathVolumeSource, at: &Path<'_>, report: &mut Report<'_>) {
    let path = at.field("path");
    report.not_empty(&path, &source.path);
    if source.path.split('/').any(|part| part == "..") {
        report.error(&path, "bad-path", "the path must not contain `..`");
    }
    if !source.path.is_empty() && !source.path.starts_with('/') {
        report.error(&path, "bad-path", "the path must be absolute");
    }
    let types =
        ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    report.one_of(&at.field("type"), source.type_.as_deref(), &types);
}

fn empty_dir(source: &EmptyDirVolumeSource, at: &Path<'_>, report: &mut Report<'_>) {
    let medium = source.medium.as_deref();
    let page = medium.and_then(|medium| medium.strip_prefix("HugePages-"));
    match page {
        Some(size) if Quantity::parse(size).is_err() => {
            let message = format!("`{size}` is no size of a page");
            report.error_with(
                &at.field("medium"),
                "bad-quantity",
                message,
                Some("write `HugePages-2Mi`".into()),
            );
        }
        Some(_) => {}
        None => report.one_of(&at.field("medium"), medium, &["", "Memory", "HugePages"]),
    }
    report.between(&at.field("mode"), source.mode, 0, 0o1777);
    let limit = source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok());
    if limit.is_some_and(|q| q.is_negative()) {
        report.error(&at.field("sizeLimit"), "out-of-range", "the limit must not be negative");
    }
}

/// Which keys become which files, and their modes.
fn files(items: Option<&[KeyToPath]>, mode: Option<i32>, at: &Path<'_>, report: &mut Report<'_>) {
    file_mode(mode, &at.field("defaultMode"), report);
    let list = at.field("items");
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        report.name(&at.field("key"), &item.key, names::data_key);
        file_path(&item.path, &at.field("path"), report);
        file_mode(item.mode, &at.field("mode"), report);
    }
}

/// Where a file is in its volume.
fn file_path(path: &str, at: &Path<'_>, report: &mut Report<'_>) {
    report.not_empty(at, path);
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        report.error(at, "bad-path", "the path must lead downwards, without `..`");
    } else if path.starts_with("..") {
        report.error(at, "bad-path", "the path must not begin with `..`");
    }
}

fn file_mode(mode: Option<i32>, at: &Path<'_>, report: &mut Report<'_>) {
    let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) else { return };
    let word = mode.to_string();
    let octal = word.len() == 3 && word.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let meant = octal && report.text(at) == Some(word.as_str());
    let help = meant.then(|| format!("did you mean the octal `0{word}`?"));
    report.error_with(
        at,
        "out-of-range",
        format!("{mode} is no file mode: not between 0 and 0777 (511)"),
        help,
    );
}
