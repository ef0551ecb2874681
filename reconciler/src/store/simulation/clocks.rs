//! Members that stood still, and clocks that are wrong: neither makes anybody read what is no
//! longer so, nor decides who leads or what comes first.

use super::*;
use std::path::Path;

/// Lets the others of three elect another leader than `old`.
async fn successor(world: &World, old: usize) -> usize {
    loop {
        let leads = |index: &usize| world.store(*index).cluster().leadership() == Leadership::Leads;
        match (0..3).filter(|index| *index != old).find(leads) {
            Some(index) => return index,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn updated(value: &str) -> Vec<Write> {
    vec![Write::Update(object("a", value).into())]
}

#[test]
fn a_leader_that_stood_still_reads_nothing_old_and_writes_nothing_over() {
    for seconds in [1, 5, 30] {
        simulate(async move {
            let world = World::new(3, 21).await;
            world.voters(3).await;
            world.store(0).write(create("a", "old")).await.unwrap();
            let old = world.leader().await;
            let (store, hold) = (world.store(old), world.of(old, |place| place.hold.clone()));
            hold.stop();
            let new = successor(&world, old).await;
            world.store(new).write(updated("new")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            assert_eq!(store.cluster().leadership(), Leadership::Leads, "it does not know yet");
            // Both were asked while it stood still, and are done as soon as it goes on.
            let read =
                hold.over(async { store.cluster().catch_up().await.map(|()| values(&store)["a"].clone()) });
            let write = hold.over(store.write(create("b", "1")));
            let asked = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                hold.go_on();
            };
            let (read, write, ()) = futures::join!(read, write, asked);
            assert!(matches!(read.as_deref(), Ok("new") | Err(_)), "{read:?}");
            let values = world.agreement().await;
            assert_eq!(values["a"], "new");
            assert!(write.is_err() || values.contains_key("b"), "{write:?}");
            store.cluster().leaderships().wait_for(|l| matches!(l, Leadership::Follows(_))).await.unwrap();
            store.cluster().catch_up().await.unwrap();
            assert_eq!(super::values(&store)["a"], "new");
        });
    }
}

#[test]
fn clocks_that_jump_an_hour_change_neither_leader_nor_order() {
    simulate(async {
        let world = World::new(3, 22).await;
        world.voters(3).await;
        let leader = world.leader().await;
        let term = world.store(leader).cluster().term();
        let mut revisions = Vec::new();
        let mut stamps = Vec::new();
        for (number, seconds) in [0, 3600, -3600, 7200, -7200].into_iter().enumerate() {
            for index in 0..3 {
                // Each is wrong in its own way.
                let wrong = if index == leader { seconds } else { -seconds };
                world.of(index, |place| place.clock.store(wrong, Ordering::Relaxed));
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            let left = world.store(number % 3).write(create(&format!("o{number}"), "1")).await.unwrap();
            revisions.push(left[0].resource_version());
            let stamp = left[0].metadata().creation_timestamp.as_ref().unwrap().0;
            stamps.push(stamp.as_second() - EPOCH - seconds);
        }
        assert_eq!(revisions, [1, 2, 3, 4, 5], "what came later is later");
        assert_eq!(stamps, [0; 5], "stamps are the leader's time");
        world.agreement().await;
        for index in 0..3 {
            assert_eq!(world.store(index).cluster().term(), term);
        }
        assert_eq!(world.leader().await, leader);
    });
}

/// The Rust files below `folder`, tests aside, with what they say.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "simulation" {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "simulation.rs" {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn the_wall_clock_is_asked_in_one_place_only() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"));
    assert!(sources.len() > 25, "{}", sources.len());
    let words = ["Timestamp::now", "SystemTime", "Zoned::now", "UtcDateTime", "std::time::Instant"];
    let asks = |(path, text): &(PathBuf, String)| {
        let count: usize = words.iter().map(|word| text.matches(word).count()).sum();
        (count > 0).then(|| (path.file_name().unwrap().to_string_lossy().into_owned(), count))
    };
    let asking: BTreeMap<_, _> = sources.iter().filter_map(asks).collect();
    // The second gives a folder its name.
    let known = [("replica.rs".to_owned(), 1), ("rescue.rs".to_owned(), 1)].into();
    assert_eq!(asking, known, "pass the options' clock on instead");
}
