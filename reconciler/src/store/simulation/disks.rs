//! What becomes of a member whose disk fails, and of the others.

use super::chance::Chance;
use super::*;
use std::collections::BTreeSet;

const BROKEN: Faults = Faults {
    loses: true,
    refuses_writes: false,
    refuses_reads: false,
    is_full: false,
    delay: Duration::ZERO,
};

#[test]
fn slow_disks_slow_a_quiet_cluster_down_and_it_keeps_its_leader() {
    simulate(async {
        let world = World::new(3, 11).await;
        world.voters(3).await;
        let leader = world.leader().await;
        let term = world.store(leader).cluster().term();
        for index in 0..3 {
            world.of(index, |place| {
                place.disk.set(Faults { delay: Duration::from_millis(500), ..Faults::default() });
            });
        }
        let store = world.store(leader);
        let mut leaderships = store.cluster().leaderships();
        leaderships.mark_unchanged();
        for number in 0..30 {
            world.store(number % 3).write(create(&format!("o{number}"), "1")).await.unwrap();
        }
        assert!(!leaderships.has_changed().unwrap(), "{:?}", store.cluster().leadership());
        assert_eq!(world.agreement().await.len(), 30);
        for index in 0..3 {
            assert_eq!(world.store(index).cluster().term(), term, "nobody asked for votes");
        }
    });
}

/// The leader's disk gets `faults` for good: another leads, writes go on, and after a `restart` on
/// a good disk it has all that it missed.
fn another_leads_instead_of(faults: Faults, restart: bool) {
    simulate(async move {
        let world = World::new(3, 12).await;
        world.voters(3).await;
        let old = world.leader().await;
        let began = tokio::time::Instant::now();
        world.of(old, |place| place.disk.set(faults));
        let mut acknowledged = BTreeSet::new();
        while acknowledged.len() < 20 {
            let name = format!("o{}", acknowledged.len());
            world.write_somewhere(&name).await;
            acknowledged.insert(name);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let new = world.leader().await;
        assert_ne!(new, old, "who cannot write does not lead");
        assert_eq!(world.store(old).cluster().failure(), None, "it waits for its disk");
        world.of(old, |place| place.disk.set(Faults::default()));
        if restart {
            world.kill(old).await;
            world.start(old).await;
        }
        let values = world.agreement().await;
        assert_eq!(values.into_keys().collect::<BTreeSet<_>>(), acknowledged);
        assert_ne!(world.leader().await, old, "who comes back disturbs nobody");
    });
}

#[test]
fn a_leader_whose_disk_loses_what_it_is_given_is_followed_by_another() {
    another_leads_instead_of(BROKEN, false);
    another_leads_instead_of(BROKEN, true);
}

#[test]
fn a_leader_whose_disk_takes_no_writes_is_followed_by_another() {
    another_leads_instead_of(Faults { refuses_writes: true, ..Faults::default() }, false);
}

#[test]
fn a_leader_whose_disk_hangs_is_followed_by_another() {
    another_leads_instead_of(Faults { delay: Duration::from_secs(3600), ..Faults::default() }, true);
}

#[test]
fn a_voter_whose_disk_fails_gives_its_vote_to_a_member_whose_disk_works() {
    simulate(async {
        let world = World::new(4, 13).await;
        world.voters(3).await;
        let leader = world.leader().await;
        let members = world.store(leader).cluster().members();
        let votes = |name: &str| members.iter().any(|m| m.peer.name == name && m.is_voter);
        let broken = (0..4).find(|index| *index != leader && votes(&world.name(*index))).unwrap();
        world.of(broken, |place| place.disk.set(BROKEN));
        let name = world.name(broken);
        for number in 0.. {
            assert!(number < 600, "{name} still votes");
            // It is only found out when there is something to write.
            world.write_somewhere(&format!("o{number}")).await;
            let members = world.store(world.leader().await).cluster().members();
            let voters: Vec<_> = members.iter().filter(|member| member.is_voter).collect();
            if voters.len() == 3 && voters.iter().all(|member| member.peer.name != name) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        world.of(broken, |place| place.disk.set(Faults::default()));
        world.agreement().await;
    });
}

#[test]
fn full_disks_stop_a_cluster_and_room_lets_it_go_on() {
    simulate(async {
        let world = World::new(3, 14).await;
        world.voters(3).await;
        let full = Faults { is_full: true, ..Faults::default() };
        let mut acknowledged = BTreeSet::new();
        for round in 0..3 {
            (0..3).for_each(|index| world.of(index, |place| place.disk.set(full)));
            let mut is_refused = false;
            // What has room already is taken; snapshots, too, find none.
            for number in 0..400 {
                let name = format!("o{round}-{number}");
                let store = world.store(number % 3);
                let big = create(&name, &"v".repeat(3000));
                match tokio::time::timeout(Duration::from_secs(30), store.write(big)).await {
                    Ok(Ok(_)) => drop(acknowledged.insert(name)),
                    Ok(Err(_)) | Err(_) => is_refused = true,
                }
                if is_refused {
                    break;
                }
            }
            assert!(is_refused, "round {round}: a full disk takes no end of writes");
            (0..3).for_each(|index| world.of(index, |place| place.disk.set(Faults::default())));
            let name = format!("o{round}");
            world.write_somewhere(&name).await;
            acknowledged.insert(name);
        }
        let there: BTreeSet<_> = world.agreement().await.into_keys().collect();
        assert!(acknowledged.is_subset(&there), "{acknowledged:?} {there:?}");
        let failures: Vec<_> = (0..3).filter_map(|i| world.store(i).cluster().failure()).collect();
        assert!(failures.is_empty(), "{failures:?}");
    });
}

/// One member writes until its power fails at any step, again and again; before some of the cuts,
/// its disk fails for a while, or its process is killed and started.
fn power_cuts(seed: u64) -> (usize, usize) {
    let counts = Arc::new(std::sync::Mutex::new((0, 0)));
    let told = Arc::clone(&counts);
    simulate(async move {
        let world = World::new(1, seed).await;
        let mut chance = Chance::new(seed);
        let (mut acknowledged, mut undecided) = (BTreeSet::new(), BTreeSet::new());
        for cut in 0..20 {
            let fails_at = chance.below(6);
            world.of(0, |place| place.disk.cut_power_after(1 << 40));
            for number in 0..chance.below(12) {
                let name = format!("o{cut}-{number}");
                match fails_at {
                    0 if number == 2 => world.of(0, |place| place.disk.set(BROKEN)),
                    0 | 1 if number == 5 => {
                        world.kill(0).await;
                        world.of(0, |place| place.disk.set(Faults::default()));
                        world.start(0).await;
                    }
                    2 if number == 3 => world.of(0, |place| place.disk.set(BROKEN)),
                    2 if number == 6 => world.of(0, |place| place.disk.set(Faults::default())),
                    3 if number == 4 => {
                        let steps = chance.below(40);
                        world.of(0, |place| place.disk.cut_power_after(steps));
                    }
                    _ => {}
                }
                let store = world.store(0);
                let write = store.write(create(&name, &"v".repeat(1500)));
                match tokio::time::timeout(Duration::from_secs(2), write).await {
                    Ok(Ok(_)) => acknowledged.insert(name),
                    Ok(Err(_)) | Err(_) => undecided.insert(name),
                };
            }
            world.of(0, |place| place.disk.cut_power());
            world.kill(0).await;
            world.of(0, |place| place.disk.set(Faults::default()));
            let started = world.try_start(0).await;
            started.unwrap_or_else(|error| panic!("seed {seed}, cut {cut}: {error:?}"));
            let there: BTreeSet<_> = values(&world.store(0)).into_keys().collect();
            let lost: Vec<_> = acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "seed {seed}, cut {cut}: {lost:?} were acknowledged");
            let foreign =
                there.iter().find(|name| !acknowledged.contains(*name) && !undecided.contains(*name));
            assert_eq!(foreign, None, "seed {seed}, cut {cut}");
        }
        *told.lock().unwrap() = (acknowledged.len(), undecided.len());
    });
    *counts.lock().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_by_power_cuts_and_failed_syncs() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match number("KEEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEL_SEEDS").unwrap_or(12),
    };
    let mut sum = (0, 0);
    for seed in seeds {
        let (acknowledged, undecided) = power_cuts(seed);
        sum = (sum.0 + acknowledged, sum.1 + undecided);
    }
    println!("{} acknowledged, {} undecided", sum.0, sum.1);
    assert!(sum.0 > 100 || sum.1 > 20, "{sum:?}");
}

#[test]
fn a_leader_that_comes_back_from_a_power_cut_reads_nothing_old() {
    for seed in 0..8 {
        simulate(async move {
            let world = World::new(3, seed).await;
            world.voters(3).await;
            let leader = world.leader().await;
            world.store(leader).write(create("a", "old")).await.unwrap();
            world.agreement().await;
            world.store(leader).write(vec![Write::Update(object("a", "new").into())]).await.unwrap();
            for index in 0..3 {
                world.of(index, |place| place.disk.cut_power());
                world.kill(index).await;
            }
            // The one that led is back first, and asked before it has heard of anybody.
            for index in [leader, (leader + 1) % 3, (leader + 2) % 3] {
                world.start(index).await;
            }
            let store = world.store(leader);
            let read = async {
                while store.cluster().catch_up().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                values(&store)["a"].clone()
            };
            let read = tokio::time::timeout(DEADLINE, read).await.unwrap();
            assert_eq!(read, "new", "seed {seed}");
        });
    }
}
