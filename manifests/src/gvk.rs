//! Which kind a document is, by its `apiVersion` and `kind`.

use crate::kind::Kind;
use crate::suggest::nearest;

/// What a document says it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A kind that a manifest may hold.
    Known(Kind),
    /// The List of `v1`, whose items are objects of their own.
    List,
    /// Refused; code, which of the two words is wrong, message, help.
    Refused { code: &'static str, field: &'static str, message: String, help: Option<String> },
}

/// Kinds that Evenkeel makes itself.
const OWN: [Kind; 3] = [Kind::Node, Kind::Revision, Kind::Event];

/// API versions that Kubernetes once had for kinds that we know.
const GONE: [&str; 6] =
    ["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2", "batch/v1beta1", "batch/v2alpha1", "apps"];

/// Kinds of Kubernetes that Evenkeel does not know yet.
const LATER: [&str; 24] = [
    "CSIDriver",
    "CertificateSigningRequest",
    "ControllerRevision",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "HelmRelease",
    "IPAddress",
    "Kustomization",
    "Lease",
    "MutatingAdmissionPolicy",
    "MutatingWebhookConfiguration",
    "PodMonitor",
    "PodTemplate",
    "PriorityLevelConfiguration",
    "PrometheusRule",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ServiceCIDR",
    "ServiceMonitor",
    "ValidatingWebhookConfiguration",
];

fn allowed() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| !OWN.contains(kind))
}

/// Judges the two words, both of which the document has.
pub(crate) fn judge(api_version: &str, kind: &str) -> Verdict {
    if api_version == "v1" && kind == "List" {
        return Verdict::List;
    }
    if let Some(known) = Kind::from_gvk(api_version, kind) {
        return if OWN.contains(&known) { own(known) } else { Verdict::Known(known) };
    }
    if kind == "AgentConfiguration" {
        let message = "an AgentConfiguration is not a manifest".to_owned();
        let help = Some("give the file to `keel agent --config`".to_owned());
        return Verdict::Refused { code: "kind-not-allowed", field: "kind", message, help };
    }
    if let Some(known) = allowed().find(|known| known.as_str() == kind) {
        return wrong_version(known, api_version);
    }
    unknown_kind(api_version, kind)
}

fn own(kind: Kind) -> Verdict {
    let message = format!("objects of kind {kind} are made by Evenkeel itself and cannot be in a manifest");
    Verdict::Refused { code: "kind-not-allowed", field: "kind", message, help: None }
}

fn wrong_version(kind: Kind, found: &str) -> Verdict {
    let message = if GONE.contains(&found) {
        format!("Kubernetes no longer has {kind} in `{found}`")
    } else {
        format!("{kind} is not in `{found}`")
    };
    let help = Some(format!("use `apiVersion: {}`", kind.api_version()));
    Verdict::Refused { code: "wrong-api-version", field: "apiVersion", message, help }
}

fn unknown_kind(api_version: &str, kind: &str) -> Verdict {
    let group_is_ours = allowed().any(|k| k.api_version() == api_version) || GONE.contains(&api_version);
    let later =
        LATER.contains(&kind) || (api_version.contains('.') && !api_version.starts_with("evenkeel.dev/"));
    let near = if later { None } else { nearest(kind, allowed().map(Kind::as_str)) };
    let help = match near {
        Some(near) => {
            let version = allowed().find(|k| k.as_str() == near).map_or("", Kind::api_version);
            if version == api_version {
                format!("did you mean `{near}`?")
            } else {
                format!("did you mean `{near}` of `apiVersion: {version}`?")
            }
        }
        None => {
            let names: Vec<&str> = allowed().map(Kind::as_str).collect();
            format!("supported: {}", names.join(", "))
        }
    };
    let (code, message) = if later || !group_is_ours {
        ("unsupported-kind", format!("kind `{kind}` of `{api_version}` is not supported yet"))
    } else {
        ("unknown-kind", format!("there is no kind `{kind}` in `{api_version}`"))
    };
    Verdict::Refused { code, field: "kind", message, help: Some(help) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(api_version: &str, kind: &str) -> (&'static str, String) {
        match judge(api_version, kind) {
            Verdict::Refused { code, help, .. } => (code, help.unwrap_or_default()),
            verdict @ (Verdict::Known(_) | Verdict::List) => panic!("{api_version} {kind}: {verdict:?}"),
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(judge("apps/v1", "Deployment"), Verdict::Known(Kind::Deployment));
        assert_eq!(judge("v1", "List"), Verdict::List);
        assert_eq!(refused("apps/v1", "Deploymnet"), ("unknown-kind", "did you mean `Deployment`?".into()));
        assert_eq!(refused("extensions/v1beta1", "Deployment").1, "use `apiVersion: apps/v1`");
        assert_eq!(refused("v1", "Deployment").0, "wrong-api-version");
        assert_eq!(judge("apps/v1", "StatefulSet"), Verdict::Known(Kind::StatefulSet));
        assert_eq!(refused("apps/v1", "ControllerRevision").0, "unsupported-kind");
        assert_eq!(refused("v1", "Node").0, "kind-not-allowed");
        assert_eq!(refused("example.com/v1", "Jobs").0, "unsupported-kind");
    }
}
