//! The types that openraft is told about.

use super::command::{Answers, Command};
use super::patience::PatientRuntime;
use super::snapshot::SnapshotFile;
use crate::peer::{NodeId, Peer};

openraft::declare_raft_types!(
    /// The log holds commands; applying one gives the answers of its batches.
    pub(super) Config:
        D = Command,
        R = Answers,
        NodeId = NodeId,
        Node = Peer,
        SnapshotData = SnapshotFile,
        AsyncRuntime = PatientRuntime,
);

pub(super) type Raft = openraft::Raft<Config>;
pub(super) type LogId = openraft::LogId<NodeId>;
pub(super) type Vote = openraft::Vote<NodeId>;
pub(super) type Entry = openraft::Entry<Config>;
pub(super) type Membership = openraft::Membership<NodeId, Peer>;
pub(super) type StoredMembership = openraft::StoredMembership<NodeId, Peer>;
pub(super) type StorageError = openraft::StorageError<NodeId>;

/// What openraft is to do by itself: nothing that depends on a clock. Elections, pulses and
/// snapshots are decided here (`election`, `pulse`, `compaction`), by what was measured.
pub(super) fn settings() -> openraft::Config {
    openraft::Config {
        cluster_name: "keel".into(),
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        // With ticks off, only the time that an answer of a peer is waited for: it may have to
        // flush to a slow disk first. The transport gives up sooner where nobody is.
        heartbeat_interval: 10_000,
        // See `patience`. There is no lease of openraft's: whoever hears a leader refuses the vote
        // before it is asked for.
        election_timeout_min: 1,
        election_timeout_max: 2,
        install_snapshot_timeout: 30_000,
        max_payload_entries: 256,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 256,
        replication_lag_threshold: 1 << 40,
        snapshot_max_chunk_size: 1 << 20,
        ..openraft::Config::default()
    }
}
