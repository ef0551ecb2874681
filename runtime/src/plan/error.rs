//! Why a pod has no plan, in the kubelet's words.

/// A pod, or one container of it, cannot be planned as the objects stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct PlanError {
    /// The container that is at fault; none if it is the pod itself.
    pub container: Option<String>,
    /// What is wrong.
    pub cause: Cause,
}

impl PlanError {
    /// The reason that Kubernetes shows for a container that waits because of this.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.cause.reason()
    }
}

/// What is wrong; `Display` is the message that a container's status shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// A ConfigMap that is not optional is not there.
    #[error("configmap \"{name}\" not found")]
    ConfigMapNotFound {
        /// Its name.
        name: String,
    },
    /// A Secret that is not optional is not there.
    #[error("secret \"{name}\" not found")]
    SecretNotFound {
        /// Its name.
        name: String,
    },
    /// The object is there, the key in it is not.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyNotFound {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// An environment variable's value holds bytes that no plan can carry.
    #[error(
        "the value of key {key} in {name} is not UTF-8 text without NUL: it cannot be an environment variable"
    )]
    NotText {
        /// The key.
        key: String,
        /// The object's name.
        name: String,
    },
    /// `fieldRef` names a field that has no value here.
    #[error("fieldPath \"{path}\" is not supported")]
    UnknownField {
        /// `fieldPath`.
        path: String,
    },
    /// `resourceFieldRef` names no resource, or another container that is not there.
    #[error("unsupported container resource \"{resource}\"")]
    UnknownResource {
        /// `resource`.
        resource: String,
    },
    /// A quantity that validation should have refused.
    #[error("\"{text}\" is not a quantity")]
    BadQuantity {
        /// As written.
        text: String,
    },
    /// `subPathExpr` refers to a variable that is not set.
    #[error("missing value for \"{name}\" in the subPathExpr \"{expression}\"")]
    MissingVariable {
        /// The variable.
        name: String,
        /// The expression.
        expression: String,
    },
    /// A `subPath` that leaves its volume.
    #[error("subPath \"{path}\" must stay inside of its volume")]
    BadSubPath {
        /// After expansion.
        path: String,
    },
    /// A mount of a volume that the pod does not have.
    #[error("volume \"{name}\" not found in the pod")]
    VolumeNotFound {
        /// Its name.
        name: String,
    },
    /// `runAsNonRoot`, and the user is root.
    #[error("container has runAsNonRoot and {}", if *.by_image { "image will run as root" } else { "container's runAsUser breaks non-root policy" })]
    RunsAsRoot {
        /// The image, not the pod, says root.
        by_image: bool,
    },
    /// `runAsNonRoot`, and the image names its user by a word.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
    )]
    UserNotVerifiable {
        /// The image's user.
        user: String,
    },
    /// `add` or `drop` names no capability.
    #[error("unknown capability \"{name}\"")]
    UnknownCapability {
        /// As written.
        name: String,
    },
    /// A user or group id outside of 0..=4294967294.
    #[error("{id} is no user or group id")]
    BadId {
        /// As written.
        id: i64,
    },
    /// Neither the pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The caller gave no image for the container.
    #[error("image has not been resolved")]
    ImageNotResolved,
    /// An annotation that validation should have refused.
    #[error("annotation {key}: {message}")]
    BadAnnotation {
        /// Its key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A probe or hook names a port that the container does not have.
    #[error("there is no port \"{port}\" in this container")]
    UnknownPort {
        /// As written.
        port: String,
    },
    /// `setHostnameAsFQDN`, and the kernel has no room for the name.
    #[error(
        "Failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long (64 characters is the max, {} characters in the FQDN)", .name.len()
    )]
    LongHostname {
        /// The whole name.
        name: String,
    },
    /// A kernel parameter that is not safe, and that the node's configuration does not allow.
    #[error("forbidden sysctl: \"{name}\" not allowlisted")]
    ForbiddenSysctl {
        /// Its name.
        name: String,
    },
    /// A pod names an AppArmor profile, and the kernel would not enforce it.
    #[error("Cannot enforce AppArmor: AppArmor is not enabled on the host")]
    NoAppArmor,
    /// Kubernetes has it, this runtime does not yet.
    #[error("{feature} is not supported yet")]
    Unsupported {
        /// Named as in the manifest.
        feature: String,
    },
}

impl Cause {
    /// Kubernetes' word for it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::LongHostname { .. } => "CreatePodSandboxError",
            Self::ForbiddenSysctl { .. } => "SysctlForbidden",
            Self::NoAppArmor => "AppArmor",
            Self::NoCommand | Self::ImageNotResolved => "CreateContainerError",
            Self::ConfigMapNotFound { .. }
            | Self::SecretNotFound { .. }
            | Self::KeyNotFound { .. }
            | Self::NotText { .. }
            | Self::UnknownField { .. }
            | Self::UnknownResource { .. }
            | Self::BadQuantity { .. }
            | Self::MissingVariable { .. }
            | Self::BadSubPath { .. }
            | Self::VolumeNotFound { .. }
            | Self::RunsAsRoot { .. }
            | Self::UserNotVerifiable { .. }
            | Self::UnknownCapability { .. }
            | Self::BadId { .. }
            | Self::BadAnnotation { .. }
            | Self::UnknownPort { .. }
            | Self::Unsupported { .. } => "CreateContainerConfigError",
        }
    }

    pub(crate) fn in_container(self, name: &str) -> PlanError {
        PlanError { container: Some(name.to_owned()), cause: self }
    }

    pub(crate) const fn in_pod(self) -> PlanError {
        PlanError { container: None, cause: self }
    }
}
