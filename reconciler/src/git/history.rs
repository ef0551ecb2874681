//! Whether a new tip continues the history in force.

use git2::{Odb, Oid, Repository};
use std::collections::{BinaryHeap, HashSet};

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
    let odb = repository.odb()?;
    if !odb.exists(tip) {
        return Ok(Ancestry::Unknown);
    }
    if tip == in_force {
        return Ok(Ancestry::Descends);
    }
    if repository.is_shallow() {
        return walk(&odb, tip, in_force);
    }
    let descends = odb.exists(in_force) && repository.graph_descendant_of(tip, in_force)?;
    Ok(if descends { Ancestry::Descends } else { Ancestry::Rewritten })
}

/// Walks back from `tip`, the newest first, over what is here. The commits' own words
/// count, not the list of shallow ones: a tip can have all of its history in a clone
/// that is shallow elsewhere.
fn walk(odb: &Odb<'_>, tip: Oid, in_force: Oid) -> Result<Ancestry, git2::Error> {
    let mut seen = HashSet::from([tip]);
    let mut next = BinaryHeap::from([(i64::MAX, tip)]);
    let mut cut = false;
    while let Some((_, id)) = next.pop() {
        if id == in_force {
            return Ok(Ancestry::Descends);
        }
        let commit = odb.read(id)?;
        for parent in parents(commit.data()) {
            if !seen.insert(parent) {
                continue;
            }
            if parent == in_force {
                return Ok(Ancestry::Descends);
            }
            if odb.exists(parent) {
                next.push((committed_at(odb.read(parent)?.data()), parent));
            } else {
                cut = true;
            }
        }
    }
    Ok(if cut { Ancestry::Unknown } else { Ancestry::Rewritten })
}

fn header<'a>(commit: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    lines.filter_map(move |line| str::from_utf8(line.strip_prefix(name.as_bytes())?).ok())
}

fn parents(commit: &[u8]) -> impl Iterator<Item = Oid> {
    header(commit, "parent ").filter_map(|id| Oid::from_str(id).ok())
}

/// Seconds since the epoch. Only an order to walk in: a wrong one costs time, nothing else.
fn committed_at(commit: &[u8]) -> i64 {
    let line = commit.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"committer "));
    let time = line.and_then(|line| line.rsplit(|byte| *byte == b' ').nth(1));
    time.and_then(|time| str::from_utf8(time).ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_and_time_are_read_from_the_header_alone() {
        let commit = b"tree 1111111111111111111111111111111111111111\n\
            parent 2222222222222222222222222222222222222222\n\
            parent 3333333333333333333333333333333333333333\n\
            author A <a> 1 +0000\ncommitter \xff <c> 77 +0100\n\nparent 4444444444444444444444444444444444444444\n";
        let found: Vec<_> = parents(commit).map(|id| id.to_string().remove(0)).collect();
        assert_eq!(found, ['2', '3']);
        assert_eq!(committed_at(commit), 77);
    }
}
