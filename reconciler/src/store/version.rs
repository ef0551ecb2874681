//! What a member does with what only a newer version of keel can read: it refuses it in words before
//! anything of it is kept, and goes on with what it has. To pass over it would be to differ from the others;
//! to keep it would be to end at the moment when it is applied.
//!
//! Messages are protocol buffers, so fields that a later version adds are passed over. A command and a
//! snapshot carry the lowest version that reads them right: whoever gives one a kind, a verb or a field that
//! changes the outcome raises its version, and goes on writing the one of before while nothing new is in it.
//! So a node of the next version can be a member, and lead, while others are still of this one.

use super::raft::{Config, Entry};
use super::wire::WireError;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest};
use std::sync::Once;

/// Said once by each process: who sends it tries again and again.
static SAID: Once = Once::new();

/// # Errors
/// If one of the entries is for a newer version.
pub(super) fn entries(request: &AppendEntriesRequest<Config>) -> Result<(), WireError> {
    request.entries.iter().try_for_each(entry).inspect_err(say)
}

fn entry(entry: &Entry) -> Result<(), WireError> {
    match &entry.payload {
        EntryPayload::Normal(command) => command.readable(),
        EntryPayload::Blank | EntryPayload::Membership(_) => Ok(()),
    }
}

/// # Errors
/// If `request` is the beginning of a snapshot that is for a newer version.
pub(super) fn part(request: &InstallSnapshotRequest<Config>) -> Result<(), WireError> {
    if request.offset > 0 {
        return Ok(());
    }
    super::snapshot::readable(&request.data).inspect_err(say)
}

fn say(error: &WireError) {
    SAID.call_once(|| {
        tracing::error!(%error, "this node shows what it has until now; it needs the others' version of keel");
    });
}
