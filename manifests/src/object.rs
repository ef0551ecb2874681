//! One object of any kind that Evenkeel knows, and the key that names it.

use crate::kind::Kind;
use crate::revision::Revision;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use std::fmt;

/// Names one object. Sorts by kind (creation order), namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// What it is.
    pub kind: Kind,
    /// Empty for kinds without namespace.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `Pod default/web`, or `Namespace web` for kinds without namespace.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

macro_rules! objects {
    ($($kind:ident),+ $(,)?) => {
        /// An object of any kind. Boxed variants keep the enum one word of payload.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names are Kubernetes' own")]
        pub enum Object { $($kind(Box<$kind>)),+ }

        impl Object {
            /// What it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),+ }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(o) => Metadata::metadata(&**o)),+ }
            }

            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(o) => Metadata::metadata_mut(&mut **o)),+ }
            }

            /// The JSON form, `apiVersion` and `kind` included.
            ///
            /// # Errors
            /// Never for an object that came from JSON or YAML.
            pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Self::$kind(o) => serde_json::to_value(o)),+ }
            }

            /// Reads the JSON form of `kind`. Checks shape only, not rules.
            ///
            /// # Errors
            /// If `value` is not of that shape.
            pub fn from_json(kind: Kind, value: serde_json::Value) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$kind => Self::$kind(Box::new(serde_json::from_value(value)?))),+ })
            }

            /// The JSON text, as the store keeps it.
            ///
            /// # Errors
            /// Never for an object that came from JSON or YAML.
            pub fn to_json_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$kind(o) => serde_json::to_vec(o)),+ }
            }

            /// Reads the JSON text of `kind`.
            ///
            /// # Errors
            /// If `bytes` are not of that shape.
            pub fn from_json_bytes(kind: Kind, bytes: &[u8]) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$kind => Self::$kind(Box::new(serde_json::from_slice(bytes)?))),+ })
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self { Self::$kind(Box::new(object)) }
        })+

        $(impl<'a> TryFrom<&'a Object> for &'a $kind {
            type Error = WrongKind;
            fn try_from(object: &'a Object) -> Result<Self, WrongKind> {
                #[allow(clippy::wildcard_enum_match_arm, reason = "every other kind is the error")]
                match object {
                    Object::$kind(o) => Ok(o),
                    other => Err(WrongKind { wanted: Kind::$kind, found: other.kind() }),
                }
            }
        })+
    };
}

objects!(
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
);

/// An object was of another kind than the caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wanted a {wanted}, found a {found}")]
pub struct WrongKind {
    /// Asked for.
    pub wanted: Kind,
    /// There.
    pub found: Kind,
}

impl Object {
    /// The key that names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let meta = self.metadata();
        ObjectKey {
            kind: self.kind(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// `metadata.name`; empty if there is none yet.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`; empty for kinds without.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`; empty before the store has given one.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion` as the log index it is; 0 before it is stored.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The owner that controls it, if one does.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.metadata().owner_references.as_ref()?.iter().find(|r| r.controller == Some(true))
    }
}
