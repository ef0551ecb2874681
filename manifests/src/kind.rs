//! The kinds of objects that Evenkeel knows, and the words users have for them.

use std::fmt;

/// A kind of object. Ordered as they are created: what others refer to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Kind {
    Namespace,
    Node,
    Revision,
    ConfigMap,
    Secret,
    Service,
    DaemonSet,
    Deployment,
    ReplicaSet,
    CronJob,
    Job,
    Pod,
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
    pub const ALL: [Self; 13] = [
        Self::Namespace,
        Self::Node,
        Self::Revision,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::DaemonSet,
        Self::Deployment,
        Self::ReplicaSet,
        Self::CronJob,
        Self::Job,
        Self::Pod,
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
            Self::ConfigMap => n("ConfigMap", "v1", "configmaps", &["cm"], true),
            Self::Secret => n("Secret", "v1", "secrets", &[], true),
            Self::Service => n("Service", "v1", "services", &["svc"], true),
            Self::DaemonSet => n("DaemonSet", "apps/v1", "daemonsets", &["ds"], true),
            Self::Deployment => n("Deployment", "apps/v1", "deployments", &["deploy"], true),
            Self::ReplicaSet => n("ReplicaSet", "apps/v1", "replicasets", &["rs"], true),
            Self::CronJob => n("CronJob", "batch/v1", "cronjobs", &["cj"], true),
            Self::Job => n("Job", "batch/v1", "jobs", &[], true),
            Self::Pod => n("Pod", "v1", "pods", &["po"], true),
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
