//! The kinds of objects that Evenkeel knows, and the words users have for them.

use std::fmt;

/// A kind of object. Ordered as they are created: what others refer to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Kind {
    Namespace,
    Node,
    Revision,
    ServiceAccount,
    PriorityClass,
    RuntimeClass,
    StorageClass,
    IngressClass,
    ClusterRole,
    ClusterRoleBinding,
    Role,
    RoleBinding,
    LimitRange,
    ResourceQuota,
    ConfigMap,
    Secret,
    PersistentVolume,
    PersistentVolumeClaim,
    Service,
    Endpoints,
    EndpointSlice,
    NetworkPolicy,
    DaemonSet,
    Deployment,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
    CronJob,
    Job,
    Pod,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    Ingress,
    APIService,
    Event,
}

/// What Kubernetes' discovery says of a kind.
struct Names {
    kind: &'static str,
    api_version: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 35] = [
        Self::Namespace,
        Self::Node,
        Self::Revision,
        Self::ServiceAccount,
        Self::PriorityClass,
        Self::RuntimeClass,
        Self::StorageClass,
        Self::IngressClass,
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::Role,
        Self::RoleBinding,
        Self::LimitRange,
        Self::ResourceQuota,
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolume,
        Self::PersistentVolumeClaim,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::NetworkPolicy,
        Self::DaemonSet,
        Self::Deployment,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::StatefulSet,
        Self::CronJob,
        Self::Job,
        Self::Pod,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
        Self::Ingress,
        Self::APIService,
        Self::Event,
    ];

    const fn names(self) -> Names {
        const fn n(
            kind: &'static str,
            api_version: &'static str,
            plural: &'static str,
            short: &'static [&'static str],
            namespaced: bool,
        ) -> Names {
            Names { kind, api_version, plural, short, namespaced }
        }
        match self {
            Self::Namespace => n("Namespace", "v1", "namespaces", &["ns"], false),
            Self::Node => n("Node", "v1", "nodes", &["no"], false),
            Self::Revision => n("Revision", "evenkeel.dev/v1alpha1", "revisions", &["rev"], false),
            Self::ServiceAccount => n("ServiceAccount", "v1", "serviceaccounts", &["sa"], true),
            Self::PriorityClass => {
                n("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", &["pc"], false)
            }
            Self::RuntimeClass => n("RuntimeClass", "node.k8s.io/v1", "runtimeclasses", &[], false),
            Self::StorageClass => n("StorageClass", "storage.k8s.io/v1", "storageclasses", &["sc"], false),
            Self::IngressClass => n("IngressClass", "networking.k8s.io/v1", "ingressclasses", &[], false),
            Self::ClusterRole => n("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles", &[], false),
            Self::ClusterRoleBinding => {
                n("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings", &[], false)
            }
            Self::Role => n("Role", "rbac.authorization.k8s.io/v1", "roles", &[], true),
            Self::RoleBinding => n("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings", &[], true),
            Self::LimitRange => n("LimitRange", "v1", "limitranges", &["limits"], true),
            Self::ResourceQuota => n("ResourceQuota", "v1", "resourcequotas", &["quota"], true),
            Self::ConfigMap => n("ConfigMap", "v1", "configmaps", &["cm"], true),
            Self::Secret => n("Secret", "v1", "secrets", &[], true),
            Self::PersistentVolume => n("PersistentVolume", "v1", "persistentvolumes", &["pv"], false),
            Self::PersistentVolumeClaim => {
                n("PersistentVolumeClaim", "v1", "persistentvolumeclaims", &["pvc"], true)
            }
            Self::Service => n("Service", "v1", "services", &["svc"], true),
            Self::Endpoints => n("Endpoints", "v1", "endpoints", &["ep"], true),
            Self::EndpointSlice => n("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", &[], true),
            Self::NetworkPolicy => {
                n("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", &["netpol"], true)
            }
            Self::DaemonSet => n("DaemonSet", "apps/v1", "daemonsets", &["ds"], true),
            Self::Deployment => n("Deployment", "apps/v1", "deployments", &["deploy"], true),
            Self::ReplicaSet => n("ReplicaSet", "apps/v1", "replicasets", &["rs"], true),
            Self::ReplicationController => {
                n("ReplicationController", "v1", "replicationcontrollers", &["rc"], true)
            }
            Self::StatefulSet => n("StatefulSet", "apps/v1", "statefulsets", &["sts"], true),
            Self::CronJob => n("CronJob", "batch/v1", "cronjobs", &["cj"], true),
            Self::Job => n("Job", "batch/v1", "jobs", &[], true),
            Self::Pod => n("Pod", "v1", "pods", &["po"], true),
            Self::HorizontalPodAutoscaler => {
                n("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers", &["hpa"], true)
            }
            Self::PodDisruptionBudget => {
                n("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", &["pdb"], true)
            }
            Self::Ingress => n("Ingress", "networking.k8s.io/v1", "ingresses", &["ing"], true),
            Self::APIService => n("APIService", "apiregistration.k8s.io/v1", "apiservices", &[], false),
            Self::Event => n("Event", "v1", "events", &["ev"], true),
        }
    }

    /// The word in a manifest's `kind:`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.names().kind
    }

    /// The word in a manifest's `apiVersion:`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        self.names().api_version
    }

    /// The plural that API paths and `keel get` use.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.names().plural
    }

    /// kubectl's short names.
    #[must_use]
    pub const fn short_names(self) -> &'static [&'static str] {
        self.names().short
    }

    /// True if objects of this kind live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        self.names().namespaced
    }

    /// The kind that a manifest names, if it is one of ours.
    #[must_use]
    pub fn from_gvk(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.api_version() == api_version && k.as_str() == kind)
    }

    /// The kind that a user means by `word`: kind, singular, plural or short
    /// name, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|k| {
            word == k.plural()
                || word == k.as_str().to_ascii_lowercase()
                || k.short_names().contains(&word.as_str())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
