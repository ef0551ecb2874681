//! A store of an earlier format becomes one of today.
//!
//! Format 1 was one table of objects. It becomes a snapshot at the log's first place, of a
//! cluster of one. Format 2 was a log in a database: its entries become a journal. The old file keeps its name until all of the new is on disk, so a crash on
//! the way repeats the whole.

use super::log::{Facts, Folder, Identity, entries_of, facts_of, format_of, with_database};
use super::raft::{LogId, Membership, StoredMembership, Vote};
use super::snapshot::{Head, Snapshots};
use super::{OpenError, State, StorageError};
use crate::peer::Peer;
use manifests::{Kind, Object};
use openraft::CommittedLeaderId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// `Kind/namespace/name` to a checksum of 8 bytes and the object's JSON.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Replaces what an earlier format left in `folder`, if it did: objects become a snapshot, a log that
/// was a database a journal.
pub(super) fn migrate(folder: &Folder, identity: &Identity, me: &Peer) -> Result<(), OpenError> {
    enum Before {
        Objects(State),
        Log(Facts, Vec<(u64, Vec<u8>)>),
        Nothing,
    }
    let path = folder.file();
    let before = with_database(&*folder.files, &path, |database| {
        Ok(match format_of(database, &path)? {
            1 => Before::Objects(load(database, &path)?),
            2 => Before::Log(facts_of(database, &path)?, entries_of(database, &path)?),
            _ => Before::Nothing,
        })
    });
    match before? {
        Before::Objects(state) => {
            tracing::info!(objects = state.len(), "the store is of an earlier format; it is written anew");
            begin(folder, identity, me, &state)
        }
        Before::Log(facts, entries) => {
            tracing::info!(
                entries = entries.len(),
                "the store's log is of an earlier format; it is written anew"
            );
            folder.create(&facts, entries)
        }
        Before::Nothing => Ok(()),
    }
}

/// `folder` holds a cluster of one, `me`, whose first state is `state`.
pub(super) fn begin(folder: &Folder, identity: &Identity, me: &Peer, state: &State) -> Result<(), OpenError> {
    let leader = CommittedLeaderId::new(1, identity.node);
    let first = LogId::new(leader, 1);
    let members = BTreeMap::from([(identity.node, me.clone())]);
    let membership = Membership::new(vec![BTreeSet::from([identity.node])], members);
    let head = Head { last: Some(first), membership: StoredMembership::new(Some(first), membership) };
    let snapshots = Snapshots::open(Arc::clone(&folder.files), folder.path.join("snapshots"), false)?;
    snapshots.write(&head, state)?;
    let vote = Some(Vote::new_committed(1, identity.node));
    folder.create(&Facts { identity: identity.clone(), vote, purged: Some(first) }, Vec::new())
}

fn load(database: &Database, path: &Path) -> Result<State, OpenError> {
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
    let numbers = transaction.open_table(NUMBERS).map_err(|e| fail(e.into()))?;
    let revision = numbers.get("revision").map_err(|e| fail(e.into()))?.map(|value| value.value());
    let revision = revision.ok_or_else(|| damaged("it has no revision".into()))?;
    let objects = transaction.open_table(OBJECTS).map_err(|e| fail(e.into()))?;
    let mut state = State::default();
    for entry in objects.iter().map_err(|e| fail(e.into()))? {
        let (name, value) = entry.map_err(|e| fail(e.into()))?;
        let object = unsealed(name.value(), value.value()).map_err(damaged)?;
        state.insert(Arc::new(object), revision);
    }
    state.restart_at(revision);
    Ok(state)
}

fn unsealed(name: &str, value: &[u8]) -> Result<Object, String> {
    let (sum, json) = value.split_first_chunk().ok_or_else(|| format!("{name} is cut short"))?;
    if u64::from_le_bytes(*sum) != super::log::checksum(json) {
        return Err(format!("{name} fails its checksum"));
    }
    let word = name.split('/').next().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let kind = kind.ok_or_else(|| format!("{name} is of no known kind"))?;
    Object::from_json_bytes(kind, json).map_err(|error| format!("{name}: {error}"))
}
