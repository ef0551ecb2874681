//! Clients that stay with one endpoint, and UDP flows that must not.

use super::lab::{Lab, ask, ask_udp, here, port, udp, udp_client};
use crate::machine::on_fresh_machine;
use netstack::ServicePort;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_client_stays_with_its_endpoint_whatever_happens_to_others() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let mut servers = Vec::new();
        for uid in ["a", "b", "c", "d"] {
            servers.push((uid, lab.server(uid).await));
        }
        let sticky = |who: &[&str]| {
            let chosen = servers.iter().filter(|(uid, _)| who.contains(uid));
            let endpoints = chosen.map(|(_, (_, address))| here(*address)).collect();
            let affinity = Some(Duration::from_secs(10_800));
            vec![ServicePort { affinity, ..port(&["10.96.0.10"], endpoints) }]
        };
        let who = || ask(&client, "10.96.0.10", 80).unwrap().who;
        lab.set("web", sticky(&["a", "b", "c"])).await;
        let first = who();
        let stays = |first: &str| (0..20).all(|_| who() == first);
        assert!(stays(&first));
        lab.set("web", sticky(&["a", "b", "c", "d"])).await;
        assert!(stays(&first), "one came");
        let other = ["a", "b", "c"].into_iter().find(|uid| *uid != first).unwrap();
        lab.set("web", sticky(&[&first, other])).await;
        assert!(stays(&first), "two went");
        // Its own went: another takes over, and keeps the client also when the first is back.
        lab.set("web", sticky(&[other, "d"])).await;
        let second = who();
        assert!(second != first && stays(&second));
        lab.set("web", sticky(&["a", "b", "c", "d"])).await;
        assert!(stays(&second));
        // Other clients go elsewhere: not all of a dozen can have come to the same by chance.
        let mut seen = BTreeSet::from([second]);
        for uid in 0..12 {
            let (pod, _) = lab.pod(&format!("other{uid}")).await;
            let answers: BTreeSet<_> = (0..5).map(|_| ask(&pod, "10.96.0.10", 80).unwrap().who).collect();
            assert_eq!(answers.len(), 1, "{answers:?}");
            seen.extend(answers);
        }
        assert!(seen.len() > 1);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn clients_are_forgotten_after_their_time() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let affinity = Some(Duration::from_secs(1));
        lab.set("web", vec![ServicePort { affinity, ..port(&["10.96.0.10"], vec![here(at_a)]) }]).await;
        ask(&client, "10.96.0.10", 80).unwrap();
        let kept = || lab.nft("list map ip keel0-services affinity").contains("elements");
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while kept() {
            assert!(std::time::Instant::now() < end, "never forgotten");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_udp_flow_follows_when_its_endpoint_is_gone() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        let dns = |address| vec![udp(&port(&["10.96.0.10"], vec![here(address)]))];
        lab.set("dns", dns(at_a)).await;
        lab.set("other", vec![udp(&port(&["10.96.0.11"], vec![here(at_a)]))]).await;
        let (flow, other) = (udp_client(&client, "10.96.0.10", 80), udp_client(&client, "10.96.0.11", 80));
        assert_eq!((ask_udp(&flow).unwrap().who, ask_udp(&other).unwrap().who), ("a".into(), "a".into()));
        let applied = lab.set("dns", dns(at_b)).await;
        assert_eq!(applied.forgotten, 1, "not the other service's flow");
        assert_eq!(ask_udp(&flow).unwrap().who, "b");
        assert_eq!(ask_udp(&other).unwrap().who, "a");
        lab.set("dns", vec![]).await;
        assert!(ask_udp(&flow).is_err());
    });
}
