//! Taints of nodes, and who tolerates them.

use manifests::k8s_openapi::api::core::v1::{PodSpec, Taint, Toleration};

/// True if `toleration` is one for `taint`, as Kubernetes matches them.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && ((key.is_empty() && exists) || key == taint.key)
        && (exists || has_value(toleration, taint))
}

fn has_value(toleration: &Toleration, taint: &Taint) -> bool {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<i64>().ok());
    let compared = number(&taint.value).zip(number(&toleration.value));
    match toleration.operator.as_deref() {
        Some("Lt") => compared.is_some_and(|(taint, limit)| taint < limit),
        Some("Gt") => compared.is_some_and(|(taint, limit)| taint > limit),
        _ => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
    }
}

/// How long a Pod that says nothing of it stays on a node that is not ready, or is lost.
pub(crate) const DEFAULT_SECONDS: i64 = 300;
/// Taints of nodes that are not ready, and of lost ones.
const OUTAGES: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Taints that only keep new Pods away, and that daemons are there to live with.
const PRESSURES: [&str; 4] = [
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];
/// Of daemons on the host's network, also this one.
const NO_NETWORK: &str = "node.kubernetes.io/network-unavailable";

/// True if every daemon lives with the taint `key`, whatever its effect.
pub(crate) fn daemons_tolerate(key: &str) -> bool {
    OUTAGES.contains(&key) || PRESSURES.contains(&key)
}

/// A Pod tolerates an outage of its node for 300 seconds, if it says nothing of it: Kubernetes'
/// admission DefaultTolerationSeconds.
pub(crate) fn give_defaults(spec: &mut PodSpec) {
    for key in OUTAGES {
        let says = |toleration: &Toleration| {
            matches!(toleration.key.as_deref(), None | Some("")) || toleration.key.as_deref() == Some(key)
        };
        let ends =
            |toleration: &Toleration| matches!(toleration.effect.as_deref(), None | Some("" | "NoExecute"));
        if !spec.tolerations.iter().flatten().any(|toleration| says(toleration) && ends(toleration)) {
            let mut toleration = exists(key, "NoExecute");
            toleration.toleration_seconds = Some(DEFAULT_SECONDS);
            spec.tolerations.get_or_insert_default().push(toleration);
        }
    }
}

/// The Pod of a DaemonSet tolerates what Kubernetes lets daemons tolerate.
pub(crate) fn give_daemons(spec: &mut PodSpec) {
    let outages = OUTAGES.map(|key| exists(key, "NoExecute"));
    let pressures = PRESSURES.map(|key| exists(key, "NoSchedule"));
    let network = (spec.host_network == Some(true)).then(|| exists(NO_NETWORK, "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for new in outages.into_iter().chain(pressures).chain(network) {
        if !tolerations.contains(&new) {
            tolerations.push(new);
        }
    }
}

fn exists(key: &str, effect: &str) -> Toleration {
    Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    }
}
