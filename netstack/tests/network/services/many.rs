//! Many services, and random ones against a model of who answers.

use super::lab::{Lab, PORT, ask, elsewhere, here, ip, name, port};
use crate::machine::on_fresh_machine;
use netstack::{Endpoint, ServicePort, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

fn address(number: u32) -> String {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + number).to_string()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn one_of_ten_thousand_services_changes_alone() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        let three = |number: u32| {
            let far = |last| elsewhere(ip(&format!("198.51.100.{last}")));
            let last = number % 200 + 1;
            vec![port(&[&address(number)], vec![far(last), far(last + 1), far(last + 2)])]
        };
        let mut all: BTreeMap<_, _> = (0..10_000).map(|n| (name(&format!("s{n}")), three(n))).collect();
        for number in [0, 5_000, 9_999] {
            all.insert(name(&format!("s{number}")), vec![port(&[&address(number)], vec![here(at_a)])]);
        }
        let applied = lab.services.replace(lab.node.clone(), all).await.unwrap();
        assert_eq!((applied.removed, applied.added), (0, 10_000 + 9_997 * 3 + 3 + 1), "{applied:?}");
        for number in [0, 5_000, 9_999] {
            assert_eq!(ask(&client, &address(number), 80).unwrap().who, "a");
        }
        let applied = lab.set("s5000", vec![port(&[&address(5_000)], vec![here(at_b)])]).await;
        assert_eq!((applied.removed, applied.added), (1, 2), "one endpoint, and the loop of another pod");
        assert_eq!(ask(&client, &address(5_000), 80).unwrap().who, "b");
        assert_eq!(ask(&client, &address(9_999), 80).unwrap().who, "a");
    });
}

/// Numbers that a seed fixes. Source: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn whoever_answers_is_whom_the_model_allows() {
    on_fresh_machine(async |host| {
        let seed = std::process::id().into();
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let mut servers = Vec::new();
        for uid in ["a", "b", "c", "d"] {
            servers.push((uid, lab.server(uid).await));
        }
        // Service by number: who is ready, who ends.
        let mut model: BTreeMap<u32, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
        for _ in 0..60 {
            let mut changes = Vec::new();
            for _ in 0..=dice.below(2) {
                let number = u32::try_from(dice.below(4)).unwrap();
                let mut endpoints = Vec::new();
                let (mut ready, mut ending) = (BTreeSet::new(), BTreeSet::new());
                for (uid, (_, at)) in &servers {
                    let target = Target { address: IpAddr::V4(*at), port: PORT };
                    match dice.below(4) {
                        0 => endpoints.push(Endpoint { ready: false, terminating: true, ..here(*at) }),
                        1 => endpoints.push(here(*at)),
                        2 => endpoints.push(Endpoint {
                            ready: false,
                            serving: false,
                            ..Endpoint::ready(target)
                        }),
                        _ => continue,
                    }
                    let last = endpoints.last().unwrap();
                    if last.ready {
                        ready.insert(*uid);
                    } else if last.terminating {
                        ending.insert(*uid);
                    }
                }
                let ports: Vec<ServicePort> = vec![port(&[&address(number)], endpoints)];
                changes.push((name(&number.to_string()), ports));
                model.insert(number, (ready, ending));
            }
            lab.services.change(changes).await.unwrap();
            for (number, (ready, ending)) in &model {
                let allowed = if ready.is_empty() { ending } else { ready };
                match ask(&client, &address(*number), 80) {
                    Ok(answer) => assert!(allowed.contains(answer.who.as_str()), "{number}: {answer:?}"),
                    Err(ErrorKind::ConnectionRefused) => assert!(allowed.is_empty(), "{number}"),
                    Err(kind) => panic!("{number}: {kind}"),
                }
            }
        }
    });
}
