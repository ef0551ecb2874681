//! The account that a pod runs as, and the token that it finds at the usual place.

use super::Node;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod,
    ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use manifests::{Kind, ObjectKey};
use runtime::token::{Identity, TokenKey};

/// Where programs look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What such a token lives for, in seconds: as long as in a cluster.
const TOKEN_SECONDS: i64 = 3607;
/// The ConfigMap in which clusters have the authority to trust.
const ROOT_CA: &str = "kube-root-ca.crt";

/// The account of a pod. One called `default` is there for every pod, written or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    uid: String,
    written: bool,
    automount: Option<bool>,
}

impl Account {
    /// By whom, and for whom, tokens are made now.
    pub(super) fn identity<'a>(&'a self, key: &'a TokenKey) -> Identity<'a> {
        Identity { key, account_uid: &self.uid, now: Timestamp::now() }
    }
}

/// The account of `pod`; `None` if it names one that is not there.
pub(super) fn of(node: &Node, pod: &Pod) -> Option<Account> {
    let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let name = named.filter(|name| !name.is_empty()).unwrap_or("default");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let stored = node.store.get(&ObjectKey::new(Kind::ServiceAccount, namespace, name));
    match stored.as_deref().and_then(|object| <&ServiceAccount>::try_from(object).ok()) {
        Some(account) => Some(Account {
            uid: account.metadata.uid.clone().unwrap_or_default(),
            written: true,
            automount: account.automount_service_account_token,
        }),
        None if name == "default" => Some(Account { uid: String::new(), written: false, automount: None }),
        None => None,
    }
}

/// `pod` with its token mounted in every container, if it or its account asks for that: the pod
/// by `automountServiceAccountToken: true`, an account by being written down without `false`.
pub(super) fn with_token(pod: &Pod, account: Option<&Account>) -> Pod {
    let mut pod = pod.clone();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let Some(spec) = &mut pod.spec else { return pod };
    let Some(account) = account else { return pod };
    let by_account = account.written && account.automount != Some(false);
    if !spec.automount_service_account_token.unwrap_or(by_account) {
        return pod;
    }
    let suffix: String = uid.chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    let name = format!("kube-api-access-{suffix}");
    let mut mounted = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == MOUNT_PATH) {
            continue;
        }
        mounted = true;
        mounts.push(VolumeMount {
            name: name.clone(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    if mounted {
        spec.volumes.get_or_insert_default().push(volume(name));
    }
    pod
}

/// The token, the authority if there is one, and the namespace.
fn volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".into(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..ServiceAccountTokenProjection::default()
    };
    let authority = ConfigMapProjection {
        name: ROOT_CA.into(),
        items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), ..KeyToPath::default() }]),
        optional: Some(true),
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".into(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".into()),
            field_path: "metadata.namespace".into(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected = ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut full = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "b"}]});
        spec.as_object().unwrap().iter().for_each(|(key, value)| full[key] = value.clone());
        serde_json::from_value(json!({"metadata": {"uid": "12-34567"}, "spec": full})).unwrap()
    }

    fn account(written: bool, automount: Option<bool>) -> Account {
        Account { uid: "u".into(), written, automount }
    }

    #[test]
    fn a_token_is_mounted_where_it_is_asked_for() {
        let table = [
            (json!({}), account(false, None), false),
            (json!({}), account(true, None), true),
            (json!({}), account(true, Some(true)), true),
            (json!({}), account(true, Some(false)), false),
            (json!({"automountServiceAccountToken": true}), account(false, None), true),
            (json!({"automountServiceAccountToken": true}), account(true, Some(false)), true),
            (json!({"automountServiceAccountToken": false}), account(true, Some(true)), false),
        ];
        for (spec, account, wanted) in table {
            let spec = with_token(&pod(spec), Some(&account)).spec.unwrap();
            let all = spec.init_containers.iter().flatten().chain(&spec.containers);
            let mounted = all.filter(|container| container.volume_mounts.is_some()).count();
            assert_eq!(mounted, if wanted { 2 } else { 0 }, "{account:?}");
            assert_eq!(spec.volumes.map_or(0, |volumes| volumes.len()), usize::from(wanted));
        }
        let none = with_token(&pod(json!({"automountServiceAccountToken": true})), None);
        assert_eq!(none.spec.unwrap().volumes, None);
    }

    #[test]
    fn a_place_that_is_taken_stays_so() {
        let own = json!([{"name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount/"}]);
        let spec = json!({"containers": [{"name": "a", "volumeMounts": own}], "initContainers": []});
        let pod = pod(spec);
        assert_eq!(with_token(&pod, Some(&account(true, None))), pod);
    }
}
