//! The cluster's records, as Secrets of the replicated store.

use crate::peers::{Records, RecordsError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::{Store, Write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Where Kubernetes keeps what clusters need for themselves, such as bootstrap tokens.
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "evenkeel.dev/cluster-record";
/// The name of the record that a Secret holds.
const NAME: &str = "evenkeel.dev/record";
const DATA: &str = "record";

/// Records in the store, once there is one.
#[derive(Debug, Default)]
pub(crate) struct SharedRecords {
    store: OnceLock<Arc<Store>>,
}

/// The node has no store yet.
#[derive(Debug, thiserror::Error)]
#[error("the store is not open yet")]
struct NotOpen;

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> RecordsError {
    RecordsError(Box::new(error))
}

fn key(name: &str) -> ObjectKey {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let digest = hex::encode(&digest.as_ref()[..10]);
    ObjectKey::new(Kind::Secret, NAMESPACE, format!("keel-record-{digest}"))
}

/// The record that `object` holds, with its name.
fn record(object: &Object) -> Option<(&str, Value)> {
    let secret = <&Secret>::try_from(object).ok()?;
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let name = secret.metadata.annotations.as_ref()?.get(NAME)?;
    let ByteString(json) = secret.data.as_ref()?.get(DATA)?;
    Some((name, serde_json::from_slice(json).ok()?))
}

fn secret(name: &str, value: &Value) -> Result<Secret, RecordsError> {
    let json = serde_json::to_vec(value).map_err(failed)?;
    let mut secret = Secret {
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(json))])),
        ..Secret::default()
    };
    let key = key(name);
    secret.metadata.name = Some(key.name);
    secret.metadata.namespace = Some(key.namespace);
    secret.metadata.annotations = Some(BTreeMap::from([(NAME.to_owned(), name.to_owned())]));
    Ok(secret)
}

impl SharedRecords {
    /// The records are those of `store` from here on.
    pub(crate) fn open(&self, store: Arc<Store>) {
        // Opened once, when the agent starts.
        drop(self.store.set(store));
    }

    fn store(&self) -> Result<&Arc<Store>, RecordsError> {
        self.store.get().ok_or_else(|| failed(NotOpen))
    }

    async fn change(
        &self,
        name: &str,
        expected: Option<Value>,
        new: Option<Value>,
    ) -> Result<bool, RecordsError> {
        let store = self.store()?;
        let found = store.get(&key(name));
        let known = found.as_deref().and_then(record).map(|(_, value)| value);
        if known != expected {
            return Ok(false);
        }
        let mut batch = Vec::new();
        match (found, new) {
            (None, None) => return Ok(true),
            (None, Some(value)) => {
                if store.get(&ObjectKey::new(Kind::Namespace, "", NAMESPACE)).is_none() {
                    let mut namespace = Namespace::default();
                    namespace.metadata.name = Some(NAMESPACE.to_owned());
                    batch.push(Write::Create(namespace.into()));
                }
                batch.push(Write::Create(secret(name, &value)?.into()));
            }
            (Some(found), Some(value)) => {
                let mut next = secret(name, &value)?;
                next.metadata.uid.clone_from(&found.metadata().uid);
                next.metadata.resource_version.clone_from(&found.metadata().resource_version);
                batch.push(Write::Update(next.into()));
            }
            (Some(found), None) => {
                batch.push(Write::Remove { key: key(name), uid: Some(found.uid().to_owned()) });
            }
        }
        match store.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Records for SharedRecords {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, RecordsError>> {
        let found = self.store().map(|store| store.get(&key(name)));
        let value = found.map(|found| found.as_deref().and_then(record).map(|(_, value)| value));
        std::future::ready(value).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Value)>, RecordsError>> {
        let found = self.store().map(|store| {
            let (objects, _) = store.list(Kind::Secret, Some(NAMESPACE));
            let records = objects.iter().filter_map(|object| record(object));
            let chosen = records.filter(|(name, _)| name.starts_with(prefix));
            let mut found: Vec<_> = chosen.map(|(name, value)| (name.to_owned(), value)).collect();
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
            found
        });
        std::future::ready(found).boxed()
    }

    fn swap<'a>(
        &'a self,
        name: &'a str,
        expected: Option<Value>,
        new: Option<Value>,
    ) -> BoxFuture<'a, Result<bool, RecordsError>> {
        self.change(name, expected, new).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_change_only_from_what_was_seen_and_outlive_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || {
            let records = SharedRecords::default();
            records.open(Arc::new(Store::open(folder.path()).expect("a store")));
            records
        };
        let records = open();
        let (one, two) = (serde_json::json!(1), serde_json::json!(2));
        assert!(records.swap("a/1", None, Some(one.clone())).await.expect("written"));
        assert!(!records.swap("a/1", None, Some(two.clone())).await.expect("read"));
        assert!(records.swap("a/1", Some(one), Some(two.clone())).await.expect("written"));
        assert!(records.swap("b/1", None, Some(two.clone())).await.expect("written"));
        drop(records);
        let again = open();
        assert_eq!(again.list("a/").await.expect("read"), [("a/1".to_owned(), two.clone())]);
        assert!(again.swap("a/1", Some(two), None).await.expect("written"));
        assert_eq!(again.get("a/1").await.expect("read"), None);
    }

    #[tokio::test]
    async fn without_a_store_yet_they_say_so() {
        let error = SharedRecords::default().get("a").await.expect_err("no store");
        assert!(crate::chain::chain(&error).contains("not open yet"), "{error:?}");
    }
}
