//! What Evenkeel does not do yet with fields that Kubernetes knows.
//!
//! The rows are data: whoever makes a field work deletes its row, and the
//! warning (or refusal) is gone.

use crate::kind::Kind;
use crate::schema::Support;

/// Fields that are accepted and do nothing yet: type, field, what is missing.
const NO_EFFECT: &[(&str, &str, &str)] = &[
    ("Affinity", "podAffinity", "the scheduler does not look at other pods yet"),
    ("Affinity", "podAntiAffinity", "the scheduler does not look at other pods yet"),
    ("Container", "volumeDevices", "block devices are not given to containers yet"),
    ("DeploymentSpec", "paused", "a rollout cannot be paused yet"),
    ("HTTPGetAction", "protocol", "requests are of HTTP/1.1"),
    ("IngressBackend", "resource", "requests are led to services only"),
    ("IngressClassSpec", "parameters", "the configuration of the agents says how they serve"),
    ("JobSpec", "backoffLimitPerIndex", "failures are counted for the whole job yet"),
    ("JobSpec", "managedBy", "every job is managed here"),
    ("JobSpec", "maxFailedIndexes", "failures are counted for the whole job yet"),
    ("JobSpec", "podFailurePolicy", "every failure counts yet"),
    ("JobSpec", "scheduling", "pods are scheduled one by one"),
    ("JobSpec", "successPolicy", "a job succeeds when all completions have"),
    ("Namespace", "spec", "finalizers of a namespace are not looked at"),
    ("ObjectMeta", "creationTimestamp", "the store sets it"),
    ("ObjectMeta", "deletionGracePeriodSeconds", "the store sets it"),
    ("ObjectMeta", "deletionTimestamp", "the store sets it"),
    ("ObjectMeta", "finalizers", "finalizers are not waited for yet"),
    ("ObjectMeta", "generation", "the store sets it"),
    ("ObjectMeta", "managedFields", "the store sets it"),
    ("ObjectMeta", "ownerReferences", "what comes from Git is owned by its source"),
    ("ObjectMeta", "resourceVersion", "the store sets it"),
    ("ObjectMeta", "selfLink", "Kubernetes dropped it"),
    ("ObjectMeta", "uid", "the store sets it"),
    ("PodSecurityContext", "fsGroupChangePolicy", "it is for volumes that outlive pods"),
    ("PodSecurityContext", "seLinuxChangePolicy", "SELinux labels are not set yet"),
    ("PodSecurityContext", "seLinuxOptions", "SELinux labels are not set yet"),
    ("PodSecurityContext", "windowsOptions", "every node runs Linux"),
    ("PodSpec", "enableServiceLinks", "services give no environment yet"),
    ("PodSpec", "evictionResponders", "nobody is asked before an eviction"),
    ("PodSpec", "os", "every node runs Linux"),
    ("PodSpec", "preemptionPolicy", "no pod is pre-empted yet"),
    ("PodSpec", "resourceClaims", "devices are not claimed yet"),
    ("PodSpec", "schedulerName", "there is one scheduler"),
    ("PodSpec", "schedulingGates", "scheduling gates are not waited for yet"),
    ("PodSpec", "schedulingGroup", "pods are scheduled one by one"),
    ("PodSpec", "topologySpreadConstraints", "the scheduler does not spread pods yet"),
    ("ResourceRequirements", "claims", "devices are not claimed yet"),
    ("SecurityContext", "seLinuxOptions", "SELinux labels are not set yet"),
    ("SecurityContext", "windowsOptions", "every node runs Linux"),
];

/// Kinds that are checked, kept and shown, and do nothing yet.
const INERT: &[(Kind, &str)] = &[
    (Kind::APIService, "no other API server is asked"),
    (Kind::ClusterRole, "only root may ask this node anything yet"),
    (Kind::ClusterRoleBinding, "only root may ask this node anything yet"),
    (Kind::Endpoints, "services lead to EndpointSlices"),
    (Kind::HorizontalPodAutoscaler, "nothing is scaled by itself yet"),
    (Kind::LimitRange, "limits of a namespace are not applied yet"),
    (Kind::PersistentVolume, "volumes that outlive pods are not made yet"),
    (Kind::PersistentVolumeClaim, "volumes that outlive pods are not made yet"),
    (Kind::PodDisruptionBudget, "pods are not evicted with regard to budgets yet"),
    (Kind::ReplicationController, "it makes no pods; use a Deployment"),
    (Kind::ResourceQuota, "quotas of a namespace are not counted yet"),
    (Kind::Role, "only root may ask this node anything yet"),
    (Kind::RoleBinding, "only root may ask this node anything yet"),
    (Kind::StatefulSet, "it makes no pods yet"),
    (Kind::StorageClass, "volumes that outlive pods are not made yet"),
];

/// Why objects of `kind` do nothing, if they do nothing yet.
pub(crate) fn inert(kind: Kind) -> Option<&'static str> {
    INERT.iter().find(|(inert, _)| *inert == kind).map(|(_, why)| *why)
}

/// Volumes that cannot be mounted yet: their pod waits.
const WAITING: &[(&str, &str, &str)] = &[
    ("Volume", "awsElasticBlockStore", UNMOUNTABLE),
    ("Volume", "azureDisk", UNMOUNTABLE),
    ("Volume", "azureFile", UNMOUNTABLE),
    ("Volume", "cephfs", UNMOUNTABLE),
    ("Volume", "cinder", UNMOUNTABLE),
    ("Volume", "csi", UNMOUNTABLE),
    ("Volume", "ephemeral", UNMOUNTABLE),
    ("Volume", "fc", UNMOUNTABLE),
    ("Volume", "flexVolume", UNMOUNTABLE),
    ("Volume", "flocker", UNMOUNTABLE),
    ("Volume", "gcePersistentDisk", UNMOUNTABLE),
    ("Volume", "gitRepo", UNMOUNTABLE),
    ("Volume", "glusterfs", UNMOUNTABLE),
    ("Volume", "iscsi", UNMOUNTABLE),
    ("Volume", "nfs", UNMOUNTABLE),
    ("Volume", "persistentVolumeClaim", UNMOUNTABLE),
    ("Volume", "photonPersistentDisk", UNMOUNTABLE),
    ("Volume", "portworxVolume", UNMOUNTABLE),
    ("Volume", "quobyte", UNMOUNTABLE),
    ("Volume", "rbd", UNMOUNTABLE),
    ("Volume", "scaleIO", UNMOUNTABLE),
    ("Volume", "storageos", UNMOUNTABLE),
    ("Volume", "vsphereVolume", UNMOUNTABLE),
    ("VolumeProjection", "clusterTrustBundle", UNPROJECTED),
    ("VolumeProjection", "podCertificate", UNPROJECTED),
];

const UNMOUNTABLE: &str = "volumes of emptyDir, hostPath, configMap, secret, downwardAPI, projected and image can be mounted so far";

const UNPROJECTED: &str =
    "volumes can show ConfigMaps, Secrets, fields of the pod and service account tokens so far";

/// What Evenkeel makes of `field` of the type `definition`.
pub(crate) fn support(definition: &str, field: &str) -> Support {
    let find = |rows: &[(&str, &str, &'static str)]| {
        rows.iter().find(|(d, f, _)| *d == definition && *f == field).map(|(_, _, why)| *why)
    };
    match (find(WAITING), find(NO_EFFECT)) {
        (Some(why), _) => Support::Waits(why),
        (None, Some(why)) => Support::NoEffect(why),
        (None, None) => Support::Full,
    }
}

/// Every row, for the test that each still names a field.
#[cfg(test)]
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    NO_EFFECT.iter().chain(WAITING).copied()
}
