//! Who votes, for clusters of all sizes.

use super::*;

fn member(id: NodeId, zone: &str, is_voter: bool) -> Candidate {
    Candidate { id, zone: zone.into(), is_voter, is_lost: false, is_quiet: false, is_current: true }
}

/// Changes the voters until nothing has to change; each step is one that the log could take.
fn settle(mut members: Vec<Candidate>, leader: NodeId) -> (BTreeSet<NodeId>, usize) {
    for steps in 0..20 {
        let now: BTreeSet<_> = members.iter().filter(|c| c.is_voter).map(|c| c.id).collect();
        let next = choose(&members, leader);
        assert!(next.contains(&leader), "{next:?} without the leader {leader}");
        if next == now {
            return (now, steps);
        }
        for member in &mut members {
            member.is_voter = next.contains(&member.id);
        }
    }
    panic!("the voters never settle: {members:?}");
}

#[test]
fn there_are_one_or_three_or_five_by_the_size_of_the_cluster() {
    for (size, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5), (500, 5)] {
        let members: Vec<_> = (1..=size).map(|id| member(id, "", id == 1)).collect();
        assert_eq!(settle(members, 1).0.len(), voters, "{size} members");
    }
}

#[test]
fn voters_spread_over_the_failure_domains() {
    let members =
        vec![member(1, "a", true), member(2, "a", true), member(3, "a", true), member(4, "b", false)];
    let (voters, _) = settle(members, 1);
    assert!(voters.contains(&4), "{voters:?}");
    let members = (1..=9).map(|id| member(id, ["a", "b", "c"][usize::try_from(id).unwrap() % 3], id == 1));
    let members: Vec<_> = members.collect();
    let (voters, _) = settle(members.clone(), 1);
    let most = zones(&members, &voters).into_values().max().unwrap();
    assert_eq!((voters.len(), most), (5, 2), "{voters:?}");
}

#[test]
fn a_lost_voter_is_replaced_by_a_member_that_is_well() {
    let mut members: Vec<_> = (1..=4).map(|id| member(id, "", id < 4)).collect();
    members[2].is_lost = true;
    assert_eq!(settle(members.clone(), 1).0, BTreeSet::from([1, 2, 4]));
    members[3].is_quiet = true;
    assert_eq!(settle(members, 1).0, BTreeSet::from([1, 2, 3]), "nobody is there to replace it");
}

#[test]
fn nobody_votes_who_lacks_the_log() {
    let mut members: Vec<_> = (1..=3).map(|id| member(id, "", id == 1)).collect();
    members[2].is_current = false;
    assert_eq!(settle(members, 1).0, BTreeSet::from([1]), "two voters would be worse than one");
}

#[test]
fn a_cluster_that_shrinks_does_with_fewer_and_lets_the_lost_go_first() {
    let mut members: Vec<_> = (1..=4).map(|id| member(id, "", true)).collect();
    members.push(member(5, "", true));
    members.remove(1);
    members[1].is_lost = true;
    members[1].is_quiet = true;
    assert_eq!(settle(members, 1).0, BTreeSet::from([1, 4, 5]));
}
