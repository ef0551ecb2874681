//! What a container to look around with may do, in kubectl's words. Pure.

use clap::ValueEnum;
use serde_json::{Value, json};

/// As kubectl's `--profile` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Profile {
    /// What helps most: to trace processes; on a node, its files and namespaces
    General,
    /// Nothing that the baseline security standard forbids
    Baseline,
    /// Nothing that the restricted security standard forbids; needs an image that is not root's
    Restricted,
    /// The network's configuration
    Netadmin,
    /// Everything: privileged
    Sysadmin,
}

impl Profile {
    /// The `securityContext` of a container that is added to a pod.
    pub(super) fn in_pod(self) -> Option<Value> {
        match self {
            Self::General => Some(json!({"capabilities": {"add": ["SYS_PTRACE"]}})),
            Self::Baseline | Self::Restricted | Self::Netadmin | Self::Sysadmin => self.everywhere(),
        }
    }

    fn everywhere(self) -> Option<Value> {
        match self {
            Self::General | Self::Baseline => None,
            Self::Restricted => Some(json!({
                "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            })),
            Self::Netadmin => Some(json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}})),
            Self::Sysadmin => Some(json!({"privileged": true})),
        }
    }

    /// The specification of a pod on `node` whose only container is `container`.
    pub(super) fn on_node(self, node: &str, mut container: Value) -> Value {
        if let Some(context) = self.everywhere() {
            container["securityContext"] = context;
        }
        let mut spec = json!({
            "nodeName": node,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
        });
        if matches!(self, Self::General | Self::Netadmin | Self::Sysadmin) {
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                spec[field] = true.into();
            }
        }
        if matches!(self, Self::General | Self::Sysadmin) {
            container["volumeMounts"] = json!([{"name": "host-root", "mountPath": "/host"}]);
            spec["volumes"] = json!([{"name": "host-root", "hostPath": {"path": "/"}}]);
        }
        spec["containers"] = json!([container]);
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_gives_what_kubectls_does() {
        assert_eq!(Profile::General.in_pod(), Some(json!({"capabilities": {"add": ["SYS_PTRACE"]}})));
        assert_eq!(Profile::Baseline.in_pod(), None);
        let on_node = |profile: Profile| profile.on_node("one", json!({"name": "debugger"}));
        let spec = on_node(Profile::General);
        assert_eq!((&spec["hostPID"], &spec["volumes"][0]["hostPath"]["path"]), (&json!(true), &json!("/")));
        assert_eq!(spec["containers"][0].get("securityContext"), None);
        assert_eq!(
            on_node(Profile::Sysadmin)["containers"][0]["securityContext"],
            json!({"privileged": true})
        );
        for profile in [Profile::Baseline, Profile::Restricted] {
            let spec = on_node(profile);
            assert!(spec.get("hostPID").is_none() && spec.get("volumes").is_none(), "{spec}");
        }
        let netadmin = on_node(Profile::Netadmin);
        assert!(netadmin["hostNetwork"] == true && netadmin.get("volumes").is_none(), "{netadmin}");
    }
}
