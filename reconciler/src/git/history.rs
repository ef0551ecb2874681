//! Whether a new tip continues the history in force.

use git2::{Oid, Repository};

/// What a repository can say about a tip and the commit in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ancestry {
    /// The tip is the commit in force, or descends from it.
    Descends,
    /// It does not: all of the tip's history is here, and the commit in force is not in it.
    Rewritten,
    /// The history here is too short to tell.
    Unknown,
}

/// How `tip` relates to `in_force`, as far as `repository` knows.
///
/// # Errors
/// libgit2's, if a commit within the history cannot be read.
pub(super) fn ancestry(repository: &Repository, tip: Oid, in_force: Oid) -> Result<Ancestry, git2::Error> {
    if tip == in_force {
        return Ok(Ancestry::Descends);
    }
    let odb = repository.odb()?;
    let cut = repository.is_shallow();
    if !odb.exists(tip) {
        return Ok(Ancestry::Unknown);
    }
    if odb.exists(in_force) && repository.graph_descendant_of(tip, in_force)? {
        return Ok(Ancestry::Descends);
    }
    Ok(if cut { Ancestry::Unknown } else { Ancestry::Rewritten })
}
