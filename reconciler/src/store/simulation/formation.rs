//! Members come, go and come back.

use super::*;
use std::collections::BTreeSet;

#[test]
fn members_agree_whoever_is_written_to() {
    simulate(async {
        let world = World::new(3, 1).await;
        world.voters(3).await;
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            world.store(index).write(create(name, "1")).await.unwrap();
        }
        assert_eq!(world.agreement().await.len(), 3);
        let refused = world.store(2).write(create("a", "2")).await;
        assert!(matches!(refused, Err(crate::store::WriteError::AlreadyExists(_))), "{refused:?}");
    });
}

#[test]
fn two_that_join_at_once_get_two_numbers() {
    simulate(async {
        let world = World::new(1, 7).await;
        world.leader().await;
        let store = world.store(0);
        let (cluster, peers) = (store.cluster(), [world.peer(1), world.peer(2)]);
        let [first, second] = peers.map(|peer| cluster.add(peer));
        let (first, second) = tokio::join!(first, second);
        assert_ne!(first.unwrap(), second.unwrap());
        assert_eq!(cluster.members().len(), 3);
    });
}

#[test]
fn a_write_does_not_wait_for_a_leader_that_was_replaced() {
    simulate(async {
        let world = World::new(3, 8).await;
        world.voters(3).await;
        // Learners hear their leader once a second only: voters learn to be less patient.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let old = world.leader().await;
        let store = world.store((old + 1) % 3);
        for other in [(old + 1) % 3, (old + 2) % 3] {
            let (old, other) = (format!("n{old}"), format!("n{other}"));
            world.switch.cut(&old, &other);
            world.switch.cut(&other, &old);
        }
        let answered = tokio::time::timeout(Duration::from_secs(3), store.write(create("a", "1"))).await;
        let answer = answered.expect("long before the old leader's answer is given up");
        assert!(matches!(answer, Err(crate::store::WriteError::Undecided)), "{answer:?}");
        store.write(create("b", "1")).await.unwrap();
    });
}

#[test]
fn a_lost_leader_is_followed_by_another_and_comes_back_as_a_follower() {
    simulate(async {
        let world = World::new(3, 2).await;
        world.voters(3).await;
        world.store(0).write(create("before", "1")).await.unwrap();
        let old = world.leader().await;
        world.kill(old).await;
        let new = world.leader().await;
        assert_ne!(new, old);
        world.store(new).write(create("between", "2")).await.unwrap();
        world.start(old).await;
        let values = world.agreement().await;
        assert_eq!(values.keys().collect::<Vec<_>>(), ["before", "between"]);
        assert_eq!(world.leader().await, new, "who comes back disturbs nobody");
    });
}

#[test]
fn a_member_that_lost_its_disk_gets_a_new_number_and_everything() {
    simulate(async {
        let world = World::new(3, 3).await;
        world.voters(3).await;
        let before: BTreeSet<_> = world.numbers().into_iter().collect();
        for number in 0..50 {
            world.store(0).write(create(&format!("o{number}"), "1")).await.unwrap();
        }
        let lost = (world.leader().await + 1) % 3;
        world.kill(lost).await;
        world.of(lost, |place| place.disk.erase());
        let leader = world.leader().await;
        let store = world.store(leader);
        let node = store.cluster().add(world.peer(lost)).await.unwrap();
        assert!(!before.contains(&node));
        let beginning = Beginning::Join { cluster: store.cluster().id().to_owned(), node };
        world.of(lost, |place| place.beginning = beginning);
        world.start(lost).await;
        assert_eq!(world.agreement().await.len(), 50);
        world.voters(3).await;
    });
}

#[test]
fn a_cut_off_leader_takes_no_writes_and_a_majority_goes_on() {
    simulate(async {
        let world = World::new(3, 4).await;
        world.voters(3).await;
        let old = world.leader().await;
        for other in (0..3).filter(|index| *index != old) {
            world.switch.cut(&world.name(old), &world.name(other));
            world.switch.cut(&world.name(other), &world.name(old));
        }
        let stuck = world.store(old).write(create("lost", "1")).await;
        assert!(stuck.is_err(), "{stuck:?}");
        let others: Vec<_> = (0..3).filter(|index| *index != old).collect();
        let new = loop {
            let leads = |index: &&usize| world.store(**index).cluster().leadership() == Leadership::Leads;
            match others.iter().find(leads) {
                Some(index) => break *index,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        world.store(new).write(create("kept", "1")).await.unwrap();
        world.switch.heal();
        let values = world.agreement().await;
        assert_eq!(values.keys().collect::<Vec<_>>(), ["kept"]);
    });
}

#[test]
fn five_of_seven_members_vote_and_a_dead_voter_is_replaced() {
    simulate(async {
        let world = World::new(7, 5).await;
        world.voters(5).await;
        let leader = world.leader().await;
        let members = world.store(leader).cluster().members();
        let is_voter = |name: &str| members.iter().any(|m| m.peer.name == name && m.is_voter);
        let dead = (0..7).find(|i| *i != leader && is_voter(&world.name(*i))).unwrap();
        world.kill(dead).await;
        loop {
            let leader = world.leader().await;
            let members = world.store(leader).cluster().members();
            let voters: Vec<_> = members.iter().filter(|m| m.is_voter).map(|m| &m.peer.name).collect();
            if voters.len() == 5 && !voters.contains(&&world.name(dead)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let leader = world.leader().await;
        world.store(leader).write(create("a", "1")).await.unwrap();
        assert_eq!(world.agreement().await.len(), 1);
    });
}

#[test]
fn a_follower_reads_what_was_acknowledged_before() {
    simulate(async {
        let world = World::new(3, 6).await;
        world.voters(3).await;
        let leader = world.leader().await;
        for number in 0..20 {
            let name = format!("o{number}");
            world.store(leader).write(create(&name, "1")).await.unwrap();
            let follower = world.store((leader + 1) % 3);
            follower.cluster().catch_up().await.unwrap();
            assert!(follower.get(&key(&name)).is_some(), "{name}");
        }
    });
}

#[test]
fn who_writes_through_a_follower_sees_it_there_at_once() {
    simulate(async {
        let world = World::new(3, 7).await;
        world.voters(3).await;
        let follower = world.store((world.leader().await + 1) % 3);
        world.switch.trouble(Duration::from_millis(60), 0);
        for number in 0..20 {
            let name = format!("o{number}");
            follower.write(create(&name, "1")).await.unwrap();
            assert!(follower.get(&key(&name)).is_some(), "{name}");
        }
    });
}

#[test]
fn a_member_knows_how_old_its_view_is_and_what_the_leader_says() {
    simulate(async {
        let world = World::new(3, 8).await;
        world.voters(3).await;
        let leader = world.leader().await;
        let (first, second) = (world.store((leader + 1) % 3), world.store((leader + 2) % 3));
        world.store(leader).cluster().say("from the leader".into());
        first.cluster().say("from a follower".into());
        let (low, high) = (world.store(leader).cluster().node(), first.cluster().node());
        while second.cluster().words().get(&low).is_none_or(|word| word != "from the leader")
            || world.store(leader).cluster().words().get(&high).is_none_or(|word| word != "from a follower")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.store(leader).cluster().staleness(), Some(Duration::ZERO));
        assert!(first.cluster().staleness().unwrap() < Duration::from_millis(200));
        for other in (0..3).filter(|index| world.name(*index) != world.name((leader + 1) % 3)) {
            world.switch.cut(&world.name(other), &world.name((leader + 1) % 3));
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let age = first.cluster().staleness().unwrap();
        assert!(age >= Duration::from_secs(29) && age < Duration::from_secs(31), "{age:?}");
    });
}

#[test]
fn a_member_that_moved_is_found_where_it_says() {
    simulate(async {
        let world = World::new(3, 9).await;
        world.voters(3).await;
        let mover = (world.leader().await + 1) % 3;
        let store = world.store(mover);
        let peer = Peer { zone: "z".into(), ..world.peer(mover) };
        store.cluster().move_to(peer.clone()).await.unwrap();
        let members = world.store(world.leader().await).cluster().members();
        assert!(members.iter().any(|member| member.peer == peer && member.is_voter), "{members:?}");
        let other = Peer { name: "another".into(), ..peer };
        assert!(store.cluster().move_to(other).await.is_err());
    });
}

#[test]
fn the_only_voter_that_is_removed_leaves_another_in_its_place() {
    simulate(async {
        let world = World::new(2, 11).await;
        world.voters(1).await;
        let voter = world.leader().await;
        world.store(voter).write(create("before", "1")).await.unwrap();
        let (gone, left) = (world.store(voter).cluster().node(), world.store(1 - voter));
        left.cluster().remove(gone).await.unwrap();
        let leads = |leadership: &Leadership| *leadership == Leadership::Leads;
        left.cluster().leaderships().wait_for(leads).await.unwrap();
        left.write(create("after", "1")).await.unwrap();
        assert_eq!(left.cluster().members().len(), 1);
        let refused = left.cluster().remove(left.cluster().node()).await;
        assert!(refused.is_err(), "{refused:?}");
    });
}
