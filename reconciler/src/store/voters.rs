//! Who votes: one, three or five members by the size of the cluster, spread over its failure
//! domains, each of them alive. The others follow.

use super::cluster::Leadership;
use super::heard::Heard;
use super::raft::Raft;
use crate::peer::NodeId;
use openraft::ChangeMembers;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A voter that was silent for this long is replaced, if there is somebody to take its place.
const LOST: Duration = Duration::from_secs(30);

/// A member, as far as it matters for who votes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: NodeId,
    zone: String,
    is_voter: bool,
    /// Silent for longer than a short trouble takes.
    is_lost: bool,
    /// Not known to be well: it is not made a voter now.
    is_quiet: bool,
    /// Has all of the log but for the last moment.
    is_current: bool,
}

/// How many vote in a cluster of `members`.
const fn count(members: usize) -> usize {
    match members {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// The voters that `candidates` should have, `leader` among them; as they are if nothing has
/// to change. At most one is exchanged at a time.
fn choose(candidates: &[Candidate], leader: NodeId) -> BTreeSet<NodeId> {
    let now: BTreeSet<_> = candidates.iter().filter(|c| c.is_voter).map(|c| c.id).collect();
    let wanted = count(candidates.len());
    let mut next = now.clone();
    let fit = |next: &BTreeSet<NodeId>| {
        let zones = zones(candidates, next);
        let well = |c: &&Candidate| c.is_current && !c.is_quiet && !c.is_lost;
        let free = candidates.iter().filter(|c| !next.contains(&c.id)).filter(well);
        // The least crowded domain first, then the oldest member.
        free.min_by_key(|c| (zones.get(c.zone.as_str()).copied().unwrap_or_default(), c.id)).map(|c| c.id)
    };
    if let Some(lost) = candidates.iter().find(|c| c.is_voter && c.is_lost && c.id != leader) {
        let mut without = next.clone();
        without.remove(&lost.id);
        if let Some(new) = fit(&without) {
            without.insert(new);
            return without;
        }
    }
    if next.len() < wanted {
        // Two voters are worse than one: either could stop both.
        let mut more = next.clone();
        while more.len() < wanted
            && let Some(new) = fit(&more)
        {
            more.insert(new);
        }
        if more.len() % 2 == 1 {
            next = more;
        }
    } else if next.len() > wanted {
        while next.len() > wanted
            && let Some(gone) = superfluous(candidates, &next, leader)
        {
            next.remove(&gone);
        }
    } else if let Some((old, new)) = better_spread(candidates, &next, leader) {
        next.remove(&old);
        next.insert(new);
    }
    next
}

fn zones<'c>(candidates: &'c [Candidate], voters: &BTreeSet<NodeId>) -> BTreeMap<&'c str, usize> {
    let mut zones = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| voters.contains(&c.id)) {
        *zones.entry(candidate.zone.as_str()).or_default() += 1;
    }
    zones
}

/// The voter to do without: a lost one first, then one of the most crowded domain.
fn superfluous(candidates: &[Candidate], voters: &BTreeSet<NodeId>, leader: NodeId) -> Option<NodeId> {
    let zones = zones(candidates, voters);
    let others = candidates.iter().filter(|c| voters.contains(&c.id) && c.id != leader);
    others.max_by_key(|c| (c.is_lost, zones[c.zone.as_str()], c.id)).map(|c| c.id)
}

/// A voter of a crowded domain, and a member of an empty one to take its place.
fn better_spread(
    candidates: &[Candidate],
    voters: &BTreeSet<NodeId>,
    leader: NodeId,
) -> Option<(NodeId, NodeId)> {
    let zones = zones(candidates, voters);
    let crowded =
        candidates.iter().filter(|c| voters.contains(&c.id) && c.id != leader && zones[c.zone.as_str()] > 1);
    let old = crowded.max_by_key(|c| (zones[c.zone.as_str()], c.id))?;
    let fits = |c: &&Candidate| c.is_current && !c.is_quiet && !zones.contains_key(c.zone.as_str());
    let new = candidates.iter().filter(|c| !voters.contains(&c.id)).filter(fits).min_by_key(|c| c.id)?;
    Some((old.id, new.id))
}

/// Keeps the voters as they should be while this member leads.
pub(super) async fn run(
    raft: Raft,
    me: NodeId,
    heard: watch::Receiver<Heard>,
    mut leadership: watch::Receiver<Leadership>,
) {
    loop {
        if leadership.wait_for(|leads| *leads == Leadership::Leads).await.is_err() {
            return;
        }
        tokio::time::sleep(PERIOD).await;
        let candidates = candidates(&raft, me, &heard.borrow());
        let next = choose(&candidates, me);
        let now: BTreeSet<_> = candidates.iter().filter(|c| c.is_voter).map(|c| c.id).collect();
        if next == now || *leadership.borrow() != Leadership::Leads {
            continue;
        }
        tracing::info!(?now, ?next, "the voters change");
        let result = raft.change_membership(ChangeMembers::ReplaceAllVoters(next), true).await;
        if let Err(error) = result {
            tracing::warn!(error = crate::chain(&error), "cannot change the voters yet");
        }
    }
}

fn candidates(raft: &Raft, me: NodeId, heard: &Heard) -> Vec<Candidate> {
    let metrics = raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    // While voters change, no further change is decided.
    if membership.get_joint_config().len() != 1 {
        return Vec::new();
    }
    let voters: BTreeSet<_> = membership.voter_ids().collect();
    let last = metrics.last_log_index.unwrap_or_default();
    let matching = metrics.replication.unwrap_or_default();
    let now = Instant::now();
    let candidate = |(id, peer): (&NodeId, &crate::peer::Peer)| {
        let silent = heard.answered.get(id).map(|at| now.saturating_duration_since(*at));
        // Whose disk is stuck answers, and counts for no majority all the same.
        let silent = silent.max(heard.stuck.get(id).copied());
        let has = matching.get(id).and_then(|id| id.map(|id| id.index)).unwrap_or_default();
        Candidate {
            id: *id,
            zone: peer.zone.clone(),
            is_voter: voters.contains(id),
            is_lost: *id != me && silent.is_some_and(|silent| silent > LOST),
            is_quiet: *id != me && silent.is_none_or(|silent| silent > Duration::from_secs(3)),
            is_current: *id == me || has + 256 >= last,
        }
    };
    membership.nodes().map(candidate).collect()
}

#[cfg(test)]
mod tests;
