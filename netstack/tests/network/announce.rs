//! Addresses that one of three nodes on a link answers for, asked for by a client on that link.

use crate::machine::{Pod, on_fresh_machine};
use crate::overlay::site::{BALANCED_V4, BALANCED_V6, Case, Ground, Node, VXLAN, ip, seen_by};
use futures::TryStreamExt as _;
use netstack::{Announcer, Placement, announcer};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long something may take; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const FLAT: Case = Case { ground: Ground::Flat, backend: VXLAN, over_v6: false };

fn addresses() -> [IpAddr; 2] {
    [ip(BALANCED_V4), ip(BALANCED_V6)]
}

/// A node's announcer, which acts on the node's own threads.
struct Voice(Option<Announcer>);

impl Voice {
    async fn of(node: &Node) -> Self {
        let placement = Placement { interfaces: vec![], never: vec!["keel0".into()] };
        Self(Some(node.spawn(Announcer::open(placement)).await.unwrap().unwrap()))
    }

    /// The node answers for what is its, where these nodes are there.
    async fn elect(&mut self, node: &Node, names: &[String]) -> BTreeSet<IpAddr> {
        let own = format!("n{}", node.number);
        let is_own = |address: &IpAddr| announcer(*address, names.iter().map(String::as_str)) == Some(&*own);
        let wanted: BTreeSet<IpAddr> = addresses().into_iter().filter(is_own).collect();
        let mut announcer = self.0.take().unwrap();
        let set = wanted.clone();
        let done = node.spawn(async move {
            let answered = announcer.set(set).await;
            (announcer, answered)
        });
        let (announcer, answered) = done.await.unwrap();
        let answered = answered.unwrap();
        assert!(answered.nowhere.is_empty(), "{answered:?}");
        assert_eq!(answered.links.values().flatten().copied().collect::<BTreeSet<_>>(), wanted);
        self.0 = Some(announcer);
        wanted
    }
}

/// The hardware address of a node's link.
async fn mac_of(node: &Node) -> Vec<u8> {
    let links = node.place.handle.link().get().match_name("up0");
    let link = links.execute().try_next().await.unwrap().unwrap();
    let mac = |attribute| if let LinkAttribute::Address(mac) = attribute { Some(mac) } else { None };
    link.attributes.into_iter().find_map(mac).unwrap()
}

/// Where the client believes that the address is.
async fn believed(client: &Pod, address: IpAddr) -> Option<Vec<u8>> {
    let all: Vec<_> = client.handle.neighbours().get().execute().try_collect().await.unwrap();
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other attribute says whose entry it is")]
    let is_it = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => IpAddr::from(*found) == address,
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => IpAddr::from(*found) == address,
        _ => false,
    };
    let entry = all.into_iter().find(|entry| {
        let is_ip = matches!(entry.header.family, AddressFamily::Inet | AddressFamily::Inet6);
        is_ip && entry.attributes.iter().any(is_it)
    })?;
    let mac = |attribute: &NeighbourAttribute| {
        if let NeighbourAttribute::LinkLayerAddress(mac) = attribute { Some(mac.clone()) } else { None }
    };
    entry.attributes.iter().find_map(mac)
}

async fn until_believed(client: &Pod, address: IpAddr, mac: &[u8]) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = believed(client, address).await;
        if found.as_deref() == Some(mac) {
            return;
        }
        assert!(Instant::now() < end, "{address} is at {found:x?}, not at {mac:x?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_address_moves_to_another_node_when_the_one_that_answers_is_lost() {
    on_fresh_machine(async |host| {
        let nodes = FLAT.nodes(&host, 3).await;
        let (client, _) = FLAT.connect(&host, 50).await;
        let mut voices = Vec::new();
        for node in &nodes {
            voices.push(Voice::of(node).await);
        }
        let mut names: Vec<String> = nodes.iter().map(|node| format!("n{}", node.number)).collect();
        let mut answered = Vec::new();
        for (node, voice) in nodes.iter().zip(&mut voices) {
            answered.push(voice.elect(node, &names).await);
        }
        assert_eq!(answered.iter().map(BTreeSet::len).sum::<usize>(), 2, "each has one: {answered:?}");
        for address in addresses() {
            let holder = answered.iter().position(|all| all.contains(&address)).unwrap();
            seen_by(&client, address, 80).unwrap();
            until_believed(&client, address, &mac_of(&nodes[holder]).await).await;
        }
        // Whoever answers for the first is unplugged, and nobody hears of it any more.
        let address = addresses()[0];
        let lost = answered.iter().position(|all| all.contains(&address)).unwrap();
        let down = LinkUnspec::new_with_name(&format!("to-{lost}")).down().build();
        host.handle.link().set(down).execute().await.unwrap();
        names.remove(lost);
        for (number, (node, voice)) in nodes.iter().zip(&mut voices).enumerate() {
            if number != lost {
                answered[number] = voice.elect(node, &names).await;
            }
        }
        answered[lost].clear();
        for address in addresses() {
            let holder = answered.iter().position(|all| all.contains(&address)).unwrap();
            // It was told, and did not ask.
            until_believed(&client, address, &mac_of(&nodes[holder]).await).await;
        }
        // Its own pod is out of reach, too, and may be picked: the others answer.
        let end = Instant::now() + DEADLINE;
        while !client.run(move || is_answered(address)) {
            assert!(Instant::now() < end, "nobody answers");
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn nobody_answers_for_what_is_nobodys_and_for_nothing_after_the_end() {
    on_fresh_machine(async |host| {
        let nodes = FLAT.nodes(&host, 1).await;
        let (client, _) = FLAT.connect(&host, 50).await;
        // It gives up sooner than others.
        client.run(|| {
            for family in ["ipv4", "ipv6"] {
                let folder = format!("/proc/sys/net/{family}/neigh/up0");
                std::fs::write(format!("{folder}/mcast_solicit"), "1").unwrap();
                std::fs::write(format!("{folder}/retrans_time_ms"), "200").unwrap();
            }
        });
        let mut voice = Voice::of(&nodes[0]).await;
        let other = ip("192.0.2.201");
        let refused = |address| client.run(move || is_unreachable(address));
        assert!(refused(ip(BALANCED_V4)), "before anybody answers");
        voice.elect(&nodes[0], &["n0".into()]).await;
        for address in addresses() {
            seen_by(&client, address, 80).unwrap();
        }
        assert!(refused(other));
        drop(voice);
        for address in addresses() {
            forget(&client, address).await;
            assert!(refused(address), "{address}");
        }
    });
}

/// Somebody answers soon.
fn is_answered(address: IpAddr) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, 80), Duration::from_millis(500)).is_ok()
}

/// Nobody on the link says that it is there.
fn is_unreachable(address: IpAddr) -> bool {
    let to = SocketAddr::new(address, 80);
    TcpStream::connect_timeout(&to, DEADLINE).unwrap_err().kind() == ErrorKind::HostUnreachable
}

/// The client has to ask again.
async fn forget(client: &Pod, address: IpAddr) {
    let name = address.to_string();
    client.run(move || {
        let words = ["neigh", "del", &name, "dev", "up0"];
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}
