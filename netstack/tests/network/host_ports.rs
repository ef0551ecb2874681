//! Ports of the node that lead to pods, of both families.

use crate::machine::{Pod, on_fresh_machine, options};
use crate::services::lab::{ask, ask_within, default_route, serve};
use netstack::{HostPort, Network, Protocol};
use rtnetlink::{LinkUnspec, LinkVeth};
use std::net::IpAddr;
use std::time::Duration;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(host_address: Option<&str>, host_port: u16, pod_address: IpAddr) -> HostPort {
    let host_address = host_address.map(ip);
    HostPort { protocol: Protocol::Tcp, host_address, host_port, pod_address, pod_port: 8080 }
}

fn without_detection() {
    for place in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{place}/accept_dad"), "0").unwrap();
    }
}

/// A machine outside, with its own and the node's address of both families.
async fn outside(host: &Pod) -> Pod {
    let pod = Pod::new();
    pod.run(without_detection);
    host.handle.link().add(LinkVeth::new("out", "outp").up().build()).execute().await.unwrap();
    let there = LinkUnspec::new_with_name("outp").setns_by_pid(u32::try_from(pod.pid()).unwrap());
    host.handle.link().set(there.build()).execute().await.unwrap();
    pod.handle.link().set(LinkUnspec::new_with_name("outp").up().build()).execute().await.unwrap();
    for (address, other, prefix) in [("192.0.2.1", "192.0.2.2", 24), ("2001:db8::1", "2001:db8::2", 64)] {
        host.add_address("out", address, prefix).await;
        pod.add_address("outp", other, prefix).await;
    }
    default_route(&pod, "192.0.2.1").await;
    default_route(&pod, "2001:db8::1").await;
    pod
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_port_of_the_node_leads_to_a_pod_by_both_families() {
    on_fresh_machine(async |host| {
        host.run(without_detection);
        let network = Network::open(options("keel0", "10.88.0.0/24,fd88::/64")).await.unwrap();
        let outside = outside(&host).await;
        let (pod, other) = (Pod::new(), Pod::new());
        pod.run(without_detection);
        other.run(without_detection);
        let at = network.attach("a", pod.pid()).await.unwrap();
        network.attach("b", other.pid()).await.unwrap();
        serve(&pod, "a");
        let both = at.addresses.iter().map(|address| port(None, 18080, *address));
        let one = [port(Some("2001:db8::1"), 18081, at.addresses[1])];
        network.publish("a", both.chain(one).collect()).await.unwrap();
        // Who asks from outside is seen as itself.
        assert_eq!(ask(&outside, "192.0.2.1", 18080).unwrap().seen_as, ip("192.0.2.2"));
        assert_eq!(ask(&outside, "2001:db8::1", 18080).unwrap().seen_as, ip("2001:db8::2"));
        assert_eq!(ask(&outside, "2001:db8::1", 18081).unwrap().who, "a");
        // The node itself, another pod, and the pod.
        assert_eq!(ask(&host, "fd88::1", 18080).unwrap().who, "a");
        assert_eq!(ask(&host, "127.0.0.1", 18080).unwrap().who, "a");
        assert_eq!(ask(&other, "fd88::1", 18080).unwrap().who, "a");
        assert_eq!(ask(&pod, "fd88::1", 18080).unwrap().who, "a");
        let patience = Duration::from_millis(500);
        assert!(ask_within(&host, "fd88::1", 18081, patience).is_err(), "only at its address");
        assert!(ask_within(&outside, "192.0.2.1", 18081, patience).is_err(), "only in its family");
        // Nothing leads away from the loopback of IPv6: who is there is there.
        assert!(ask_within(&host, "::1", 18080, patience).is_err());
        network.detach("a").await.unwrap();
        assert!(ask_within(&outside, "2001:db8::1", 18080, patience).is_err());
        let tables =
            host.run(|| std::process::Command::new("nft").args(["list", "tables"]).output().unwrap());
        let tables = String::from_utf8(tables.stdout).unwrap();
        assert_eq!(tables, "table inet keel0-fast\n", "the last port takes its tables along");
    });
}
