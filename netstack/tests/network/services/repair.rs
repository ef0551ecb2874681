//! Agents that are restarted, and others who meddle.

use super::lab::{Lab, ask, here, name, port, udp, v6};
use crate::machine::on_fresh_machine;
use netstack::{Applied, ServicePort, Services};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn web(at: std::net::Ipv4Addr) -> Vec<ServicePort> {
    let tcp = port(&["10.96.0.10", "fd96::10"], vec![here(at), here(v6(at))]);
    let affinity = Some(Duration::from_secs(600));
    vec![ServicePort { affinity, node_port: Some(30_053), ..udp(&tcp) }, tcp]
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_restarted_agent_changes_nothing_that_is_right() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        lab.set("web", web(at_a)).await;
        lab.set("gone", vec![port(&["10.96.0.20"], vec![here(at_b)])]).await;
        let mut open = client.run(|| TcpStream::connect("10.96.0.10:80").unwrap());
        open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let before = lab.nft("-a list table ip keel0-services");
        let Lab { services, network: _network, node, host } = lab;
        drop(services);
        assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a", "while no agent runs");
        let services = Services::open(Lab::options()).await.unwrap();
        let both = BTreeMap::from([
            (name("web"), web(at_a)),
            (name("gone"), vec![port(&["10.96.0.20"], vec![here(at_b)])]),
        ]);
        let applied = services.replace(node.clone(), both).await.unwrap();
        assert_eq!(applied, Applied::default());
        let lab = Lab { services, network: _network, node, host };
        assert_eq!(lab.nft("-a list table ip keel0-services"), before);
        // What went while it was away goes now, and nothing else.
        let services = Services::open(Lab::options()).await.unwrap();
        let one = BTreeMap::from([(name("web"), web(at_a))]);
        let applied = services.replace(lab.node.clone(), one).await.unwrap();
        assert_eq!((applied.removed, applied.added, applied.rebuilt), (3, 0, false), "{applied:?}");
        open.write_all(b"!").unwrap();
        let mut answer = Vec::new();
        while answer.last() != Some(&b'!') {
            let mut byte = [0];
            open.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.ends_with(b"a!"), "the connection went on");
        services.remove().await.unwrap();
        assert!(!lab.nft("list tables").contains("services"));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_others_break_is_put_back() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        lab.set("web", web(at_a)).await;
        let mut repairs = lab.services.repairs();
        let breaks = [
            "flush map ip keel0-services services",
            "flush map ip keel0-services endpoints",
            "flush chain ip keel0-services prerouting",
            "add rule ip6 keel0-services refuse drop",
            "add chain ip keel0-services stranger",
            "delete table ip keel0-services",
            "flush ruleset",
        ];
        let whole = |lab: &Lab| {
            let tables = ["ip", "ip6"].map(|family| lab.nft(&format!("list table {family} keel0-services")));
            let mut lines: Vec<_> = tables.concat().lines().map(String::from).collect();
            // Maps are shown in the order of their hashes.
            lines.iter_mut().for_each(|line| {
                let mut words: Vec<_> = line.split([',', ' ']).map(String::from).collect();
                words.sort();
                *line = words.join(" ");
            });
            lines.sort();
            lines
        };
        let before = whole(&lab);
        for command in breaks {
            repairs.mark_unchanged();
            lab.nft(command);
            let repaired = tokio::time::timeout(Duration::from_secs(20), repairs.changed()).await;
            repaired.unwrap_or_else(|_| panic!("not put back: {command}")).unwrap();
            assert_eq!(whole(&lab), before, "{command}");
            assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a", "{command}");
            assert_eq!(ask(&client, "fd96::10", 80).unwrap().who, "a", "{command}");
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_change_that_meets_a_broken_table_mends_it() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        lab.set("web", web(at_a)).await;
        lab.nft("delete table ip keel0-services");
        let applied = lab.set("web", web(at_b)).await;
        assert!(applied.rebuilt || applied.added > 0, "{applied:?}");
        assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "b");
    });
}
