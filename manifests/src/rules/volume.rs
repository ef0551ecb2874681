//! Volumes.

use crate::names;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Volume};
use std::collections::HashMap;

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
    let medium = source.medium.as_deref().filter(|m| !m.starts_with("HugePages"));
    report.one_of(&at.field("medium"), medium, &["", "Memory"]);
    if source.medium.as_deref().is_some_and(|m| m.starts_with("HugePages")) {
        report.error(&at.field("medium"), "unsupported-volume", "huge pages are not supported yet");
    }
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
        report.not_empty(&at.field("path"), &item.path);
        if item.path.starts_with('/') || item.path.split('/').any(|part| part == "..") {
            report.error(&at.field("path"), "bad-path", "the path must lead downwards, without `..`");
        } else if item.path.starts_with("..") {
            report.error(&at.field("path"), "bad-path", "the path must not begin with `..`");
        }
        file_mode(item.mode, &at.field("mode"), report);
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
