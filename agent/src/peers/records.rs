//! Named records of the cluster: tokens, known nodes, removed keys. Where they are kept is not
//! the concern of who uses them.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Records of this process, and of a file if there is one.
#[derive(Debug, Default)]
pub(crate) struct LocalRecords {
    records: Mutex<BTreeMap<String, Value>>,
    file: Option<PathBuf>,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> RecordsError {
    RecordsError(Box::new(error))
}

impl LocalRecords {
    /// Those that `file` holds, none if it is not there; each change is in it before it is told.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn open(file: PathBuf) -> Result<Self, RecordsError> {
        let records = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(failed)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { records: Mutex::new(records), file: Some(file) })
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, expected: Option<&Value>, new: Option<Value>) -> Result<bool, RecordsError> {
        let mut records = self.records();
        if records.get(name) != expected {
            return Ok(false);
        }
        let mut changed = records.clone();
        match new {
            Some(value) => changed.insert(name.to_owned(), value),
            None => changed.remove(name),
        };
        if let Some(file) = &self.file {
            super::folder::write_whole(file, &serde_json::to_vec(&changed).map_err(failed)?)
                .map_err(failed)?;
        }
        *records = changed;
        Ok(true)
    }
}

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
        async move { self.change(name, expected.as_ref(), new) }.boxed()
    }
}
