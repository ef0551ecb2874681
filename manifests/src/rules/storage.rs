//! PersistentVolumes, PersistentVolumeClaims and StorageClasses.

use super::selector;
use crate::names;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Filesystem", "Block"];
/// The fields of a PersistentVolume's specification that are no source of it.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn claim(spec: &PersistentVolumeClaimSpec, at: &Path<'_>, report: &mut Report<'_>) {
    access_modes(spec.access_modes.as_deref(), at, report);
    report.one_of(&at.field("volumeMode"), spec.volume_mode.as_deref(), &VOLUME_MODES);
    if let Some(selector) = &spec.selector {
        selector::check(selector, &at.field("selector"), report);
    }
    class_name(spec.storage_class_name.as_deref(), at, report);
    let path = at.field("resources");
    let resources = spec.resources.as_ref();
    let request = resources.and_then(|r| r.requests.as_ref()).and_then(|all| all.get("storage"));
    let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|all| all.get("storage"));
    let Some(request) = request else {
        return report.error(at, "missing-field", "field `resources.requests.storage` is missing");
    };
    let requests = path.field("requests");
    let request = size(request, &requests.key("storage"), report);
    let limits = path.field("limits");
    let limit = limit.and_then(|limit| size(limit, &limits.key("storage"), report));
    if let (Some(request), Some(limit)) = (request, limit)
        && limit < request
    {
        report.error(&limits.key("storage"), "out-of-range", "the limit is less than the request");
    }
}

pub(super) fn volume(spec: &PersistentVolumeSpec, at: &Path<'_>, report: &mut Report<'_>) {
    access_modes(spec.access_modes.as_deref(), at, report);
    report.one_of(&at.field("volumeMode"), spec.volume_mode.as_deref(), &VOLUME_MODES);
    let policies = ["Retain", "Delete", "Recycle"];
    let policy = spec.persistent_volume_reclaim_policy.as_deref();
    report.one_of(&at.field("persistentVolumeReclaimPolicy"), policy, &policies);
    class_name(spec.storage_class_name.as_deref(), at, report);
    let path = at.field("capacity");
    match spec.capacity.as_ref().and_then(|all| all.get("storage")) {
        Some(capacity) => {
            size(capacity, &path.key("storage"), report);
        }
        None => report.error(at, "missing-field", "field `capacity.storage` is missing"),
    }
    sources(spec, at, report);
}

fn sources(spec: &PersistentVolumeSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let written = report.keys(at).into_iter().filter(|key| !NO_SOURCE.contains(&key.as_str()));
    match &written.collect::<Vec<_>>()[..] {
        [] => report.error(
            at,
            "missing-field",
            "the volume has no source, such as `hostPath`, `local` or `nfs`",
        ),
        [_] => {}
        all => {
            let message = format!("a volume has one source only; here are {}", all.join(" and "));
            report.error(&at.field(&all[1]), "several-volume-sources", message);
        }
    }
    if let Some(source) = &spec.host_path {
        let path = at.field("hostPath");
        let path = path.field("path");
        report.not_empty(&path, &source.path);
        if source.path.split('/').any(|part| part == "..") {
            report.error(&path, "bad-path", "the path must not contain `..`");
        }
    }
    if let Some(source) = &spec.local {
        report.not_empty(&at.field("local").field("path"), &source.path);
        if spec.node_affinity.is_none() {
            report.error(
                at,
                "missing-field",
                "field `nodeAffinity` is missing: a local volume is on one node",
            );
        }
    }
}

pub(super) fn class(class: &StorageClass, report: &mut Report<'_>) {
    report.not_empty(&Path::ROOT.field("provisioner"), &class.provisioner);
    if !class.provisioner.is_empty() {
        let provisioner = class.provisioner.to_ascii_lowercase();
        report.name(&Path::ROOT.field("provisioner"), &provisioner, names::qualified);
    }
    let policy = class.reclaim_policy.as_deref();
    report.one_of(&Path::ROOT.field("reclaimPolicy"), policy, &["Delete", "Retain"]);
    let mode = class.volume_binding_mode.as_deref();
    report.one_of(&Path::ROOT.field("volumeBindingMode"), mode, &["Immediate", "WaitForFirstConsumer"]);
}

fn access_modes(modes: Option<&[String]>, at: &Path<'_>, report: &mut Report<'_>) {
    let modes = modes.unwrap_or_default();
    if modes.is_empty() {
        return report.error(at, "missing-field", "field `accessModes` is missing");
    }
    let list = at.field("accessModes");
    for (index, mode) in modes.iter().enumerate() {
        report.one_of(&list.index(index), Some(mode), &ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        report.error(&list, "not-allowed", "ReadWriteOncePod stands alone");
    }
}

fn class_name(name: Option<&str>, at: &Path<'_>, report: &mut Report<'_>) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        report.name(&at.field("storageClassName"), name, names::subdomain);
    }
}

/// The structure check has refused what is no quantity.
fn size(text: &Text, at: &Path<'_>, report: &mut Report<'_>) -> Option<Quantity> {
    let quantity = Quantity::parse(&text.0).ok()?;
    if quantity.bytes_ceil() <= 0 {
        report.error(at, "out-of-range", format!("{quantity} must be greater than zero"));
    }
    Some(quantity)
}
