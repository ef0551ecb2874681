//! The network against the real kernel, each test on a machine of its own: a fresh
//! network namespace, whose pods are threads in namespaces of theirs. All of it is
//! gone when the threads end, however they end.
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod announce;
mod bandwidth;
mod bgp;
mod cni;
mod dns;
mod fast_path;
mod host_ports;
mod machine;
mod overlay;
mod policies;
mod services;

use machine::{Pod, links, on_fresh_machine, options};
use netstack::{AttachError, Backend, Namespace, Network, NetworkError, Overlay, OverlayOptions, Warning};
use overlay::site::{Case, Ground};
use rtnetlink::{LinkBridge, LinkVeth};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn uids(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(ToString::to_string).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn pods_and_host_reach_one_another() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let (a, b) = (Pod::new(), Pod::new());
        let at_a = network.attach("a", a.pid()).await.unwrap();
        let at_b = network.attach("b", b.pid()).await.unwrap();
        assert_eq!((&at_a.addresses, &at_b.addresses), (&vec![ip("10.88.0.2")], &vec![ip("10.88.0.3")]));
        assert_eq!((at_a.gateway, at_a.interface.as_str()), (ip("10.88.0.1"), "eth0"));
        assert_eq!(a.meets(&b, at_b.addresses[0]), at_a.addresses[0], "each sees the other's true address");
        assert_eq!(b.meets(&a, at_a.addresses[0]), at_b.addresses[0]);
        assert_eq!(host.meets(&a, at_a.addresses[0]), at_a.gateway);
        assert_eq!(a.meets(&host, at_a.gateway), at_a.addresses[0]);
        assert_eq!(a.meets(&a, ip("127.0.0.1")), ip("127.0.0.1"), "loopback is up");
        host.add_address("lo", "192.0.2.7", 32).await;
        assert_eq!(a.meets(&host, ip("192.0.2.7")), at_a.addresses[0], "by the default route");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn forwarding_that_was_off_is_switched_on_and_told_and_put_back() {
    on_fresh_machine(async |host| {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap().trim().to_owned();
        let all = || ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/lo/accept_ra"].map(read);
        // A new namespace takes the settings over from the host's, whatever those are.
        for (name, value) in
            [("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"), ("ipv6/conf/lo/accept_ra", "1")]
        {
            std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
        }
        let both = "10.88.0.0/24,fd88::/64";
        let first = Network::open(options("keel0", both)).await.unwrap();
        let told = first.warnings();
        assert!(matches!(told, [Warning::ForwardingEnabled(_), Warning::ForwardingEnabled(_)]), "{told:?}");
        assert_eq!(all(), ["1", "1", "2"]);
        let again = Network::open(options("keel0", both)).await.unwrap();
        assert!(again.warnings().is_empty(), "{:?}", again.warnings());

        let other = Network::open(options("keel1", "10.89.0.0/24")).await.unwrap();
        other.remove().await.unwrap();
        assert_eq!(all(), ["1", "1", "2"], "the other agent changed nothing");
        let other = Network::open(options("keel1", "10.89.0.0/24")).await.unwrap();
        again.remove().await.unwrap();
        assert_eq!(all(), ["1", "1", "2"], "there is another agent's network");
        other.remove().await.unwrap();
        assert_eq!(all(), ["0", "0", "1"], "the last one puts back what the first changed");
        assert!(links(&host.handle).await.iter().all(|link| !link.contains("keel0")));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_has_the_address_that_it_had_before_the_machine_was_started() {
    on_fresh_machine(async |_| {
        for (cidrs, had, foreign) in [
            ("10.88.0.0/24", vec!["10.88.0.7"], vec!["10.89.0.7"]),
            ("fd88::/64", vec!["fd88::7"], vec!["fd89::7"]),
            ("10.88.0.0/24,fd88::/64", vec!["10.88.0.7", "fd88::7"], vec!["10.88.0.7", "fd88::8"]),
        ] {
            let network = Network::open(options("keel0", cidrs)).await.unwrap();
            let all = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
            assert!(!network.remember("other", &all(&foreign)), "{cidrs}");
            assert!(!network.remember("other", &[]), "{cidrs}");
            assert!(network.remember("a", &all(&had)) && network.remember("a", &all(&had)), "{cidrs}");
            assert!(!network.remember("b", &all(&had)), "{cidrs}: it is another pod's");
            assert_ne!(network.reserve("b").unwrap(), all(&had), "{cidrs}");
            assert_eq!(network.reserve("a").unwrap(), all(&had), "{cidrs}");
            let pod = Pod::new();
            assert_eq!(network.attach("a", pod.pid()).await.unwrap().addresses, all(&had), "{cidrs}");
            network.remove().await.unwrap();
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn attaching_again_changes_nothing_and_repairs_what_is_broken() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let pod = Pod::new();
        let first = network.attach("a", pod.pid()).await.unwrap();
        let before = links(&host.handle).await;
        assert_eq!(network.attach("a", pod.pid()).await.unwrap(), first);
        assert_eq!(links(&host.handle).await, before);
        pod.break_interface().await;
        host.take_out_of_bridge(&first.host_interface).await;
        assert_eq!(network.attach("a", pod.pid()).await.unwrap(), first);
        assert_eq!(host.meets(&pod, first.addresses[0]), first.gateway);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_new_sandbox_of_the_same_pod_keeps_the_address() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let (old, new) = (Pod::new(), Pod::new());
        let first = network.attach("a", old.pid()).await.unwrap();
        let second = network.attach("a", new.pid()).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(host.meets(&new, second.addresses[0]), second.gateway);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn detaching_removes_the_link_and_then_frees_the_address() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/30")).await.unwrap();
        let (a, b) = (Pod::new(), Pod::new());
        let at_a = network.attach("a", a.pid()).await.unwrap();
        let full = network.attach("b", b.pid()).await.unwrap_err();
        assert!(matches!(full, AttachError::Exhausted(_)));
        assert_eq!(full.to_string(), "all 1 addresses for pods of 10.88.0.0/30 are taken");
        network.detach("a").await.unwrap();
        assert!(!links(&host.handle).await.contains(&at_a.host_interface));
        network.detach("a").await.unwrap();
        assert_eq!(network.attach("b", b.pid()).await.unwrap().addresses, at_a.addresses);
        drop(b);
        network.detach("b").await.unwrap();
        assert_eq!(links(&host.handle).await, uids(&["keel0", "lo"]));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_restarted_agent_knows_who_has_what() {
    on_fresh_machine(async |host| {
        let before = Network::open(options("keel0", "10.88.0.0/29")).await.unwrap();
        let pods: Vec<_> = (0..5).map(|_| Pod::new()).collect();
        let mut attached = Vec::new();
        for (uid, pod) in ["a", "b", "c"].iter().zip(&pods) {
            attached.push(before.attach(uid, pod.pid()).await.unwrap());
        }
        before.detach("a").await.unwrap();
        drop(before);
        // As a crash in the middle of a removal leaves it.
        host.set_group(&attached[2].host_interface, 7).await;
        let after = Network::open(options("keel0", "10.88.0.0/29")).await.unwrap();
        assert_eq!(after.attach("d", pods[3].pid()).await.unwrap().addresses, [ip("10.88.0.5")]);
        assert_eq!(after.attach("b", pods[1].pid()).await.unwrap(), attached[1]);
        assert_eq!(after.attach("e", pods[4].pid()).await.unwrap().addresses, [ip("10.88.0.6")]);
        assert_eq!(after.attach("a", pods[0].pid()).await.unwrap().addresses, [ip("10.88.0.2")]);
        assert_eq!(host.meets(&pods[2], attached[2].addresses[0]), attached[2].gateway, "untouched");
        assert_eq!(host.group(&attached[2].host_interface).await, 0);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_hundred_pods_at_once_get_a_hundred_addresses() {
    on_fresh_machine(async |host| {
        let network = Arc::new(Network::open(options("keel0", "10.88.0.0/24")).await.unwrap());
        let pods: Vec<_> = (0..100).map(|_| Pod::new()).collect();
        let attach = |(uid, pod): (usize, &Pod)| {
            let (network, pid) = (network.clone(), pod.pid());
            // Twice each, so that the same pod is also joined from two sides at once.
            [(); 2].map(|()| {
                tokio::spawn({
                    let network = network.clone();
                    async move { network.attach(&uid.to_string(), pid).await }
                })
            })
        };
        let tasks: Vec<_> = pods.iter().enumerate().flat_map(attach).collect();
        let mut attached = Vec::new();
        for task in tasks {
            attached.push(task.await.unwrap().unwrap());
        }
        let addresses: BTreeSet<_> = attached.iter().map(|at| at.addresses[0]).collect();
        assert_eq!(addresses.len(), 100);
        assert!(attached.chunks(2).all(|twice| twice[0] == twice[1]));
        assert_eq!(links(&host.handle).await.len(), 102);
        for (pod, at) in pods.iter().zip(attached.iter().step_by(2)).step_by(33) {
            assert_eq!(host.meets(pod, at.addresses[0]), at.gateway);
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn sweeping_takes_the_dead_pods_of_this_bridge_only() {
    on_fresh_machine(async |host| {
        let ours = Network::open(options("keel0", "10.88.0.0/29")).await.unwrap();
        let theirs = Network::open(options("keel1", "10.89.0.0/29")).await.unwrap();
        let pods: Vec<_> = (0..4).map(|_| Pod::new()).collect();
        let live = ours.attach("live", pods[0].pid()).await.unwrap();
        let dead = ours.attach("dead", pods[1].pid()).await.unwrap();
        let others = theirs.attach("dead", pods[2].pid()).await.unwrap();
        drop(ours);
        let ours = Network::open(options("keel0", "10.88.0.0/29")).await.unwrap();
        assert_eq!(ours.sweep(&uids(&["live"])).await.unwrap(), ["dead"]);
        let left = links(&host.handle).await;
        assert!(left.contains(&live.host_interface) && left.contains(&others.host_interface));
        assert!(!left.contains(&dead.host_interface));
        assert!(ours.sweep(&uids(&["live"])).await.unwrap().is_empty());
        assert_eq!(host.meets(&pods[0], live.addresses[0]), live.gateway);
        assert_eq!(host.meets(&pods[2], others.addresses[0]), others.gateway);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn many_pods_leave_at_once_and_their_neighbours_stay() {
    on_fresh_machine(async |host| {
        let network = Arc::new(Network::open(options("keel0", "10.88.0.0/24")).await.unwrap());
        let pods: Vec<_> = (0..40).map(|_| Pod::new()).collect();
        let mut attached = Vec::new();
        for (uid, pod) in pods.iter().enumerate() {
            attached.push(network.attach(&uid.to_string(), pod.pid()).await.unwrap());
        }
        let detach = |uid: usize| {
            let network = network.clone();
            tokio::spawn(async move { network.detach(&uid.to_string()).await })
        };
        for task in (1..40).map(detach).collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        assert_eq!(links(&host.handle).await.len(), 3);
        assert_eq!(host.meets(&pods[0], attached[0].addresses[0]), attached[0].gateway);
        let again = network.attach("7", pods[7].pid()).await.unwrap();
        assert_eq!(host.meets(&pods[7], again.addresses[0]), again.gateway);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn removing_leaves_nothing() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let pods: Vec<_> = (0..3).map(|_| Pod::new()).collect();
        for (uid, pod) in pods.iter().enumerate() {
            network.attach(&uid.to_string(), pod.pid()).await.unwrap();
        }
        let site = Case { ground: Ground::Flat, backend: Backend::None, over_v6: false };
        let overlay = OverlayOptions { own: network.pod_cidrs(), ..site.options(0, &[]) };
        Overlay::open(overlay).await.unwrap().replace(Vec::new()).await.unwrap();
        let tables = || {
            let said =
                host.run(|| std::process::Command::new("nft").args(["list", "tables"]).output().unwrap());
            String::from_utf8(said.stdout).unwrap()
        };
        assert!(tables().contains("keel0-cluster"), "{}", tables());
        network.remove().await.unwrap();
        assert_eq!(links(&host.handle).await, uids(&["lo"]));
        assert_eq!(tables(), "");
        network.remove().await.unwrap();
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn an_administrators_bridge_is_used_and_not_removed() {
    on_fresh_machine(async |host| {
        host.handle.link().add(LinkBridge::new("br-lan").build()).execute().await.unwrap();
        host.set_alias("br-lan", "of the cellar").await;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let network = Network::open(options("br-lan", "10.88.0.0/24")).await.unwrap();
        let pod = Pod::new();
        let at = network.attach("a", pod.pid()).await.unwrap();
        assert_eq!(host.meets(&pod, at.addresses[0]), at.gateway);
        network.remove().await.unwrap();
        assert_eq!(links(&host.handle).await, uids(&["br-lan", "lo"]));
        assert_eq!(host.alias("br-lan").await.as_deref(), Some("of the cellar"));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_others_have_is_refused_by_name() {
    on_fresh_machine(async |host| {
        let refusal =
            async |bridge, cidr| Network::open(options(bridge, cidr)).await.unwrap_err().to_string();
        assert!(matches!(
            Network::open(options("a/b", "10.88.0.0/24")).await,
            Err(NetworkError::BridgeName { .. })
        ));
        host.handle.link().add(LinkVeth::new("pair7", "pair8").build()).execute().await.unwrap();
        assert_eq!(
            refusal("pair7", "10.88.0.0/24").await,
            "pair7 exists and is no bridge but veth; choose another name for the bridge"
        );
        Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        assert_eq!(
            refusal("keel0", "10.90.0.0/24").await,
            "bridge keel0 has the network 10.88.0.0/24 instead of 10.90.0.0/24; choose another name, or remove the bridge"
        );
        assert_eq!(
            refusal("keel1", "10.88.0.0/16").await,
            "the network of the pods, 10.88.0.0/16, overlaps with 10.88.0.0/24 on keel0"
        );
        assert!(!links(&host.handle).await.contains("keel1"), "refused before anything is made");
        let inside = Network::open(options("keel1", "10.88.0.64/26")).await.unwrap();
        assert_eq!(
            inside.warnings()[0].to_string(),
            "the network of the pods, 10.88.0.64/26, hides a part of 10.88.0.0/24 on keel0"
        );
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_that_cannot_be_joined_is_refused_by_name() {
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        assert!(matches!(network.attach("a", i32::MAX).await, Err(AttachError::Namespace { .. })));
        let own = host.pid();
        assert!(
            matches!(network.attach("a", own).await, Err(AttachError::HostNamespace { pod: Namespace::Process(pid) }) if pid == own)
        );
        let pod = Pod::new();
        network.attach("a", pod.pid()).await.unwrap();
        let taken = network.attach("b", pod.pid()).await.unwrap_err();
        assert_eq!(
            taken.to_string(),
            format!("the pod of process {} already has an interface eth0", pod.pid())
        );
        assert_eq!(links(&host.handle).await.len(), 3, "the failure leaves no link");
        let next: Ipv4Addr = "10.88.0.3".parse().unwrap();
        network.detach("b").await.unwrap();
        network.detach("a").await.unwrap();
        assert_ne!(network.attach("c", pod.pid()).await.unwrap().addresses, [IpAddr::from(next)], "it rests");
    });
}
