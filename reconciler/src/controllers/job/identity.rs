//! The labels by which a Job knows its pods, as Kubernetes' API server gives them.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use manifests::Object;
use std::collections::BTreeMap;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const LEGACY_UID_LABEL: &str = "controller-uid";
const LEGACY_NAME_LABEL: &str = "job-name";

/// `job` with selector and labels of its own; `None` if it has them, or brings
/// its own selector by `manualSelector`.
pub(super) fn identified(owner: &Object, job: &Job) -> Option<Job> {
    let mut identified = job.clone();
    let spec = identified.spec.as_mut()?;
    if spec.manual_selector == Some(true) {
        return None;
    }
    let (uid, name) = (owner.uid().to_owned(), owner.name().to_owned());
    let selector = spec.selector.get_or_insert_with(LabelSelector::default);
    selector.match_labels.get_or_insert_default().insert(UID_LABEL.into(), uid.clone());
    let labels: &mut BTreeMap<_, _> =
        spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for (key, value) in
        [(UID_LABEL, &uid), (LEGACY_UID_LABEL, &uid), (NAME_LABEL, &name), (LEGACY_NAME_LABEL, &name)]
    {
        labels.insert(key.into(), value.clone());
    }
    (identified != *job).then_some(identified)
}
