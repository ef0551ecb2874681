//! Pods of several nodes, and the ways between them.

mod flow;
mod matrix;
pub(crate) mod site;

use crate::machine::on_fresh_machine;
use flow::Flow;
use netstack::{Backend, Overlay, Unreachable};
use site::{ANSWERS, Case, Ground, VXLAN, introduce, ip, seen_by};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECRET: Backend = Backend::Wireguard { port: 51820 };

/// Whether the kernel has it; where it has not, that was said by name.
fn has_wireguard() -> bool {
    let case = Case { ground: Ground::Flat, backend: SECRET, over_v6: false };
    let (sender, receiver) = std::sync::mpsc::channel();
    on_fresh_machine(async move |host| {
        case.ground(&host).await;
        let node = case.node(&host, 0).await;
        sender.send(node.tell(Vec::new()).await.map_err(|error| error.to_string())).unwrap();
    });
    match receiver.recv().unwrap() {
        Ok(_) => {
            println!("this kernel has wireguard");
            true
        }
        Err(why) => {
            assert_eq!(
                why,
                "this kernel has no wireguard; load the module, or choose another network.backend on all nodes"
            );
            println!("SKIPPED: {why}");
            false
        }
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn routes_past_a_router_are_refused_by_name() {
    on_fresh_machine(async move |host| {
        let case = Case { ground: Ground::Routed, backend: Backend::HostGateway, over_v6: false };
        let nodes = [case.node(&host, 0).await, case.node(&host, 1).await];
        let told = introduce(&nodes).await.remove(0).unwrap();
        let (address, gateway) = (ip("192.0.11.2"), ip("192.0.10.1"));
        assert_eq!(told.unreachable, [("n1".into(), Unreachable::NotOnLink { address, gateway })]);
        assert!(!nodes[0].command("ip route").contains("10.244.1.0"));
    });
}

fn nodes_come_and_go(backend: Backend) {
    on_fresh_machine(async move |host| {
        let case = Case { ground: Ground::Flat, backend, over_v6: false };
        let nodes = case.nodes(&host, 3).await;
        let (from, to) = (&nodes[0].pods[0], &nodes[1].pods[0]);
        // Whoever speaks in secret has agreed on that before.
        seen_by(&from.1, to.2[0], ANSWERS).unwrap();
        let flow = Flow::start(&from.1, &to.1, to.2[0]);
        for _ in 0..20 {
            for node in &nodes[..2] {
                let other = nodes[1 - usize::from(node.number)].as_peer();
                let gone = node.tell(vec![other.clone()]).await.unwrap();
                assert!(gone.put == 0 && gone.removed > 0 && !gone.rebuilt, "{gone:?}");
                let back = node.tell(vec![other, nodes[2].as_peer()]).await.unwrap();
                assert!(back.put == gone.removed && back.removed == 0 && !back.rebuilt, "{back:?}");
            }
        }
        // One of the two has more and more networks.
        let mut other = nodes[1].as_peer();
        for number in 0..20 {
            other.pods.push(format!("10.244.{}.0/24", 100 + number).parse().unwrap());
            let more = nodes[0].tell(vec![other.clone(), nodes[2].as_peer()]).await.unwrap();
            assert!(more.put > 0 && more.removed == 0 && !more.rebuilt, "{more:?}");
        }
        let course = flow.end();
        assert!(course.sent > 50 && course.missing.is_empty(), "{course:?}");
        println!("{backend:?}: {} sent, none missing, {} overtaken", course.sent, course.overtaken);
        seen_by(&nodes[2].pods[0].1, from.2[0], ANSWERS).unwrap();
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn nodes_come_and_go_by_vxlan_and_the_others_lose_nothing() {
    nodes_come_and_go(VXLAN);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn nodes_come_and_go_by_routes_and_the_others_lose_nothing() {
    nodes_come_and_go(Backend::HostGateway);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn nodes_come_and_go_in_secret_and_the_others_lose_nothing() {
    if has_wireguard() {
        nodes_come_and_go(SECRET);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_restart_changes_nothing_and_what_others_break_is_put_back() {
    on_fresh_machine(async move |host| {
        let case = Case { ground: Ground::Flat, backend: VXLAN, over_v6: false };
        let nodes = case.nodes(&host, 2).await;
        let (node, other) = (&nodes[0], &nodes[1]);
        let (options, peer) = (case.options(0, &node.addresses), other.as_peer());
        let again =
            node.spawn(async move { Overlay::open(options).await.unwrap().replace(vec![peer]).await });
        let again = again.await.unwrap().unwrap();
        assert!(again.is_nothing(), "{again:?}");
        for breaking in [
            "ip route del 10.244.1.0/24",
            "ip -6 route del fd44:0:0:1::/64",
            "ip route replace 10.244.1.0/24 via 192.0.2.1 proto 107 src 10.244.0.1",
            "ip neigh del 10.244.1.0 dev keel0-vx",
            "bridge fdb del 0a:5a:0a:f4:01:00 dev keel0-vx",
            "ip link set keel0-vx down",
            "ip link del keel0-vx",
        ] {
            node.command(breaking);
            let overlay = Arc::clone(&node.overlay);
            let repaired = node.spawn(async move {
                let mut overlay = overlay.lock().await;
                // The first look may come while more is said.
                let begun = Instant::now();
                loop {
                    tokio::time::timeout(Duration::from_secs(10), overlay.disturbed()).await.unwrap();
                    let changed = overlay.verify().await.unwrap();
                    if !changed.is_nothing() || begun.elapsed() > Duration::from_secs(10) {
                        return changed;
                    }
                }
            });
            let repaired = repaired.await.unwrap();
            assert!(!repaired.is_nothing(), "{breaking}: {repaired:?}");
            let (_, pod, own) = &node.pods[0];
            for (own, theirs) in own.iter().zip(&other.pods[0].2) {
                assert_eq!(seen_by(pod, *theirs, ANSWERS).as_ref(), Ok(own), "after {breaking}");
            }
        }
        node.command("nft flush table ip keel0-cluster");
        let overlay = Arc::clone(&node.overlay);
        let changed = node.spawn(async move { overlay.lock().await.verify().await }).await.unwrap().unwrap();
        assert!(changed.rebuilt, "{changed:?}");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn another_backend_leaves_nothing_of_the_one_before() {
    on_fresh_machine(async move |host| {
        let case = Case { ground: Ground::Flat, backend: VXLAN, over_v6: false };
        let nodes = case.nodes(&host, 2).await;
        let (node, peer) = (&nodes[0], nodes[1].as_peer());
        let before = node.command("nft list tables");
        assert!(before.contains("keel0-cluster"), "{before}");
        let mut options = case.options(0, &node.addresses);
        options.backend = Backend::HostGateway;
        let changed = node.spawn(async move {
            let mut overlay = Overlay::open(options).await.unwrap();
            (overlay.replace(vec![peer]).await.unwrap(), overlay)
        });
        let (changed, overlay) = changed.await.unwrap();
        assert!(changed.rebuilt, "{changed:?}");
        let (links, routes) = (node.command("ip link"), node.command("ip route"));
        assert!(!links.contains("keel0-vx"), "{links}");
        assert!(routes.contains("10.244.1.0/24 via 192.0.2.11 dev up0"), "{routes}");
        node.spawn(overlay.remove()).await.unwrap().unwrap();
        let (routes, tables) = (node.command("ip route"), node.command("nft list tables"));
        assert!(!routes.contains("10.244.1.0") && !tables.contains("cluster"), "{routes} {tables}");
    });
}
