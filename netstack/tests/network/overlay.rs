//! Pods of several nodes, and the ways between them.

pub(crate) mod site;

use crate::machine::{Pod, on_fresh_machine};
use netstack::{Backend, Overlay, Unreachable};
use nix::sys::socket::{setsockopt, sockopt};
use site::{ANSWERS, Case, Ground, Node, VXLAN, introduce, ip, seen_by, service_addresses, tell_all};
use std::fmt::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Who asks, and whom an answer should see.
struct Asker<'a> {
    name: String,
    place: &'a Pod,
    own: Vec<IpAddr>,
    node: u8,
}

fn of_family(addresses: &[IpAddr], like: IpAddr) -> IpAddr {
    *addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4()).unwrap()
}

fn askers(nodes: &[Node]) -> Vec<Asker<'_>> {
    let mut askers = Vec::new();
    for node in nodes {
        for (name, place, own) in &node.pods {
            askers.push(Asker { name: name.clone(), place, own: own.clone(), node: node.number });
        }
        let (name, own) = (format!("n{}", node.number), node.network.gateways());
        askers.push(Asker { name, place: &node.place, own, node: node.number });
    }
    askers
}

/// Everybody asks every pod, node and service by both families; prints who was seen, and fails if
/// somebody was not answered or not seen as it should be.
fn matrix(nodes: &[Node], title: &str) {
    let mut table = format!("\n{title}\n");
    let mut wrong = Vec::new();
    let is_node = |name: &str| name.starts_with('n');
    for asker in askers(nodes) {
        let _ = write!(table, "{:>3}", asker.name);
        let pods =
            nodes.iter().flat_map(|node| &node.pods).map(|(name, _, own)| (name.clone(), own.clone(), 0));
        let of_nodes =
            nodes.iter().map(|node| (format!("n{}", node.number), node.addresses.clone(), node.number));
        let service = [("svc".to_owned(), service_addresses().to_vec(), 0)];
        for (name, addresses, number) in pods.chain(of_nodes).chain(service) {
            for address in addresses {
                let port = if name == "svc" { 80 } else { ANSWERS };
                let seen = seen_by(asker.place, address, port);
                let from_node = is_node(&asker.name);
                let wanted = if is_node(&name) && (from_node || number != asker.node) {
                    // Between nodes there are no pods' addresses.
                    of_family(&nodes[usize::from(asker.node)].addresses, address)
                } else {
                    of_family(&asker.own, address)
                };
                let itself = is_node(&name) && from_node && number == asker.node;
                // Who gets itself by a service is seen as the bridge, which is as good.
                let gateways = nodes[usize::from(asker.node)].network.gateways();
                let fine =
                    |seen: &IpAddr| *seen == wanted || itself || (name == "svc" && gateways.contains(seen));
                let _ = write!(table, " {name}{}", if address.is_ipv4() { "/4" } else { "/6" });
                let _ = write!(table, ":{}", if seen.as_ref().is_ok_and(fine) { "ok" } else { "NO" });
                if !seen.as_ref().is_ok_and(fine) {
                    wrong.push(format!("{} to {name} at {address}: {seen:?}, not {wanted}", asker.name));
                }
            }
        }
        table.push('\n');
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{wrong:#?}");
}

fn all_reach_all(case: Case) {
    on_fresh_machine(async move |host| {
        let mut nodes = case.nodes(&host, 3).await;
        nodes[0].add_pod("q0").await;
        nodes.iter().for_each(|node| node.place.run(tell_all));
        matrix(&nodes, &format!("{case:?}"));
        // Who is outside sees the node.
        host.run(tell_all);
        let outside = if case.ground == Ground::Flat { ip("192.0.2.1") } else { ip("192.0.11.1") };
        let (_, pod, _) = &nodes[1].pods[0];
        let seen = seen_by(pod, outside, ANSWERS).unwrap();
        assert_eq!(seen, of_family(&nodes[1].addresses, outside));
        // Whoever comes from outside to a port of any node is led on.
        let from_outside = seen_by(&host, of_family(&nodes[2].addresses, outside), 30080);
        assert!(from_outside.is_ok(), "{from_outside:?}");
        if case.backend == VXLAN {
            let mtu = pod.run(|| {
                let output = std::process::Command::new("busybox")
                    .args(["ip", "link", "show", "eth0"])
                    .output()
                    .unwrap();
                String::from_utf8(output.stdout).unwrap()
            });
            let wanted = if case.over_v6 { "mtu 1430" } else { "mtu 1450" };
            assert!(mtu.contains(wanted), "{mtu}");
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_on_one_link_by_vxlan() {
    all_reach_all(Case { ground: Ground::Flat, backend: VXLAN, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_past_a_router_by_vxlan() {
    all_reach_all(Case { ground: Ground::Routed, backend: VXLAN, over_v6: false });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_past_a_router_by_vxlan_over_ipv6() {
    all_reach_all(Case { ground: Ground::Routed, backend: VXLAN, over_v6: true });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_on_one_link_by_routes() {
    all_reach_all(Case { ground: Ground::Flat, backend: Backend::HostGateway, over_v6: false });
}

/// Where the kernel has no WireGuard, that is said by name.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn everybody_reaches_everybody_past_a_router_in_secret_or_the_kernel_is_named() {
    let case = Case { ground: Ground::Routed, backend: Backend::Wireguard { port: 51820 }, over_v6: false };
    let (sender, receiver) = std::sync::mpsc::channel();
    on_fresh_machine(async move |host| {
        let node = case.node(&host, 0).await;
        sender.send(node.tell(Vec::new()).await.map_err(|error| error.to_string())).unwrap();
    });
    match receiver.recv().unwrap() {
        Ok(_) => {
            println!("this kernel has wireguard");
            all_reach_all(case);
            all_reach_all(Case { over_v6: true, ..case });
        }
        Err(why) => assert_eq!(
            why,
            "this kernel has no wireguard; load the module, or choose another network.backend on all nodes"
        ),
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

/// Datagrams of a flow that are on their way at once.
const UNDER_WAY: u32 = 16;

/// Datagrams with numbers, from one pod to another, until it is told to stop. Returns how many were
/// sent and how many came.
struct Flow {
    stop: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<u32>,
    receiver: std::thread::JoinHandle<u32>,
}

impl Flow {
    fn start(from: &Pod, to: &Pod, address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU32::new(0));
        let noted = Arc::clone(&seen);
        let receiver = to.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:7007").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            // Whoever waits for a busy machine is to find all that came meanwhile.
            setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4];
                let mut count = 0;
                while socket.recv(&mut buffer).is_ok_and(|_| buffer != u32::MAX.to_be_bytes()) {
                    count += 1;
                    noted.store(count, Ordering::Relaxed);
                }
                count
            })
        });
        let stopped = Arc::clone(&stop);
        let sender = from.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((address, 7007)).unwrap();
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while !stopped.load(Ordering::Relaxed) {
                    // No more are under way than any queue holds.
                    if count - seen.load(Ordering::Relaxed) < UNDER_WAY {
                        socket.send(&count.to_be_bytes()).unwrap();
                        count += 1;
                    } else {
                        std::thread::yield_now();
                    }
                }
                socket.send(&u32::MAX.to_be_bytes()).unwrap();
                count
            })
        });
        Self { stop, sender, receiver }
    }

    fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self.sender.join().unwrap(), self.receiver.join().unwrap())
    }
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
        let (sent, came) = flow.end();
        println!("{backend:?}: {sent} datagrams sent, {came} came");
        assert!(sent > 50 && sent == came, "{sent} sent, {came} came");
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
