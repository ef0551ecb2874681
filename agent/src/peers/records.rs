//! Named records of the cluster: tokens, known nodes, removed keys. Where they are kept is not
//! the concern of who uses them.

#[cfg(test)]
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::fmt;
#[cfg(test)]
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The records cannot be read or written now.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's records cannot be used now")]
pub(crate) struct RecordsError(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);

/// Records by name (`tokens/…`), each a JSON value.
pub(crate) trait Records: fmt::Debug + Send + Sync + 'static {
    /// The record of this name, if there is one.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, RecordsError>>;

    /// Every record whose name begins with `prefix`, in the order of names.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Value)>, RecordsError>>;

    /// The record of this name is `new`, or gone without; unless it was something else than
    /// `expected`: then nothing changed, and the answer is false.
    fn swap<'a>(
        &'a self,
        name: &'a str,
        expected: Option<Value>,
        new: Option<Value>,
    ) -> BoxFuture<'a, Result<bool, RecordsError>>;
}

/// Records of this process alone.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct LocalRecords(Mutex<BTreeMap<String, Value>>);

#[cfg(test)]
impl LocalRecords {
    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Records for LocalRecords {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, RecordsError>> {
        let found = self.records().get(name).cloned();
        async move { Ok(found) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Value)>, RecordsError>> {
        let records = self.records();
        let found = records.iter().filter(|(name, _)| name.starts_with(prefix));
        let found: Vec<_> = found.map(|(name, value)| (name.clone(), value.clone())).collect();
        async move { Ok(found) }.boxed()
    }

    fn swap<'a>(
        &'a self,
        name: &'a str,
        expected: Option<Value>,
        new: Option<Value>,
    ) -> BoxFuture<'a, Result<bool, RecordsError>> {
        let mut records = self.records();
        let fits = records.get(name) == expected.as_ref();
        match new {
            _ if !fits => {}
            Some(value) => drop(records.insert(name.to_owned(), value)),
            None => drop(records.remove(name)),
        }
        std::future::ready(Ok(fits)).boxed()
    }
}
