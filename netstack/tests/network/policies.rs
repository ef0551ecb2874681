//! Policies against the real kernel: whole tables of who reaches whom, each compared with a model.

mod cluster;
mod table;

mod api {
    pub(crate) use netstack::Protocol;
    pub(crate) use netstack::policies::{
        IpBlock, Labels, NamedPort, Peer, Policy, PolicyName, PolicyPod, Ports, Rule,
    };
}

use crate::machine::on_fresh_machine;
use crate::services::lab::{Lab, ask, here, port};
use api::{PolicyName, PolicyPod, Ports, Protocol};
use cluster::{Cluster, allow, block, is_dropped, pods, policy};
use netstack::policies::{News, Policies};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn pods_reach_whom_policies_let_them() {
    on_fresh_machine(async |host| {
        let mut cluster = Cluster::new(host).await;
        let mut wrong = Vec::new();
        for (number, state) in table::states().into_iter().enumerate() {
            let what = format!("{state:?}");
            cluster.put_all(state).await;
            let differences = cluster.differences(number % 4 == 0).await;
            if !differences.is_empty() {
                wrong.push(format!("{what}: {}", differences.join(", ")));
            }
        }
        assert!(wrong.is_empty(), "{} of the tables differ:\n{}", wrong.len(), wrong.join("\n"));
        assert!(cluster.compared > 10_000, "{}", cluster.compared);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn labels_that_change_change_who_reaches_whom() {
    on_fresh_machine(async |host| {
        let mut cluster = Cluster::new(host).await;
        let rule = allow(vec![cluster::of_namespace("ns", "y", "pod", "a")], vec![]);
        cluster.put("x", "from-a", Some(policy("b", Some(vec![rule]), None))).await;
        assert!(cluster.differences(false).await.is_empty());
        cluster.label_pod("y", "c", "a").await;
        cluster.label_pod("y", "a", "other").await;
        assert!(cluster.differences(false).await.is_empty());
        cluster.label_namespace("z", "y").await;
        assert!(cluster.differences(false).await.is_empty());
        cluster.label_pod("x", "b", "other").await;
        assert!(cluster.differences(false).await.is_empty());
        cluster.remove_pod("y", "c").await;
        cluster.label_pod("x", "c", "b").await;
        assert!(cluster.differences(false).await.is_empty(), "who is not known is not let in");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_service_is_judged_by_who_answers_and_who_asked() {
    on_fresh_machine(async |host| {
        let mut cluster = Cluster::new(host).await;
        let at = cluster.address("x", "b");
        let service = port(&["10.96.0.10"], vec![here(at)]);
        cluster.lab.set("web", vec![service]).await;
        assert!(ask(cluster.pod("x", "a"), "10.96.0.10", 80).is_ok(), "nothing is forbidden yet");

        // Only a may ask b, whatever address it calls b by.
        let rule = allow(vec![pods("pod", "a")], vec![]);
        cluster.put("x", "to-b", Some(policy("b", Some(vec![rule]), None))).await;
        assert_eq!(ask(cluster.pod("x", "a"), "10.96.0.10", 80).unwrap().seen_as, cluster.address("x", "a"));
        assert!(is_dropped(&cluster.policies, cluster.pod("x", "c"), "10.96.0.10", 80).await);
        assert!(is_dropped(&cluster.policies, cluster.pod("y", "a"), "10.96.0.10", 80).await);
        assert!(ask(cluster.pod("x", "b"), "10.96.0.10", 80).is_ok(), "it asks itself");
        assert!(ask(&cluster.lab.host, "10.96.0.10", 80).is_ok(), "its own node may always");

        // What goes out is judged by where it arrives, not by the service's address.
        let rule = allow(vec![block("10.96.0.0/16", &[])], vec![]);
        cluster.put("y", "out", Some(policy("a", None, Some(vec![rule])))).await;
        cluster.put("x", "to-b", None).await;
        assert!(is_dropped(&cluster.policies, cluster.pod("y", "a"), "10.96.0.10", 80).await);
        let rule = allow(vec![block(&format!("{at}/32"), &[])], vec![]);
        cluster.put("y", "out", Some(policy("a", None, Some(vec![rule])))).await;
        assert!(ask(cluster.pod("y", "a"), "10.96.0.10", 80).is_ok());
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn open_connections_stay_and_new_ones_are_judged() {
    on_fresh_machine(async |host| {
        let mut cluster = Cluster::new(host).await;
        let to = SocketAddr::new(cluster.address("x", "b"), 8080);
        let mut open = cluster.pod("x", "a").run(move || TcpStream::connect(to).unwrap());
        let mut line = [0; 16];
        let first = open.read(&mut line).unwrap();
        assert!(first > 0);
        cluster.put("x", "deny", Some(policy("b", Some(vec![]), None))).await;
        assert!(is_dropped(&cluster.policies, cluster.pod("x", "a"), &to.ip().to_string(), 8080).await);
        open.write_all(b"still").unwrap();
        let mut said = [0; 8];
        open.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"x/bstill");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_restart_changes_nothing_and_what_others_broke_is_mended() {
    on_fresh_machine(async |host| {
        let mut cluster = Cluster::new(host).await;
        let ports =
            vec![Ports::Range(Protocol::Tcp, 80, 90), Ports::Named(Protocol::Udp, "serve-81-udp".into())];
        let rule = allow(vec![pods("pod", "a"), block("10.88.0.0/16", &["10.88.0.0/29"])], ports);
        let both = policy("b", Some(vec![rule.clone()]), Some(vec![rule]));
        cluster.put("x", "both", Some(both)).await;
        // Debian's `nft` can show all of it.
        let shown = cluster.lab.nft("list table inet keel0-policies");
        assert!(shown.contains("hook forward") && shown.contains("map blocks4"), "{shown}");
        let again = cluster.restart().await;
        assert_eq!((again.removed, again.added, again.rebuilt), (0, 0, false), "{again:?}");
        assert!(again.elements > 10 && again.policies == 1, "{again:?}");

        for command in [
            "flush set inet keel0-policies ports",
            "flush set inet keel0-policies spans",
            "flush map inet keel0-policies ingress4",
            "flush chain inet keel0-policies to-pod4",
            "delete chain inet keel0-policies forward",
            "delete table inet keel0-policies",
        ] {
            let mut repairs = cluster.policies.repairs();
            cluster.lab.nft(command);
            let mended = tokio::time::timeout(Duration::from_secs(30), repairs.changed()).await;
            assert!(matches!(mended, Ok(Ok(()))), "{command}: {mended:?}");
            let again = cluster.restart().await;
            assert_eq!((again.removed, again.added, again.rebuilt), (0, 0, false), "{command}: {again:?}");
        }
        assert!(cluster.differences(false).await.is_empty());

        // Without policies there is nothing.
        cluster.put("x", "both", None).await;
        assert!(!cluster.lab.nft("list tables").contains("keel0-policies"));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_is_let_in_when_its_policies_are_in_force() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let policies = Policies::open("keel0").await.unwrap();
        let deny = News::Policy(
            PolicyName { namespace: "x".into(), name: "deny".into() },
            Some(api::Policy { ingress: Some(vec![]), ..api::Policy::default() }),
        );
        let applied = policies.replace(vec![deny.clone()]).await.unwrap();
        assert_eq!(applied.elements, 0, "nobody is concerned");
        let (_free, free) = lab.server("free").await;
        let (pod, address) = lab.server("held").await;
        let one = |namespace: &str, address: Ipv4Addr| PolicyPod {
            namespace: namespace.into(),
            addresses: vec![address.into()],
            here: true,
            ..PolicyPod::default()
        };
        assert!(!policies.admit("free".into(), one("y", free)).await.unwrap());
        assert!(policies.admit("held".into(), one("x", address)).await.unwrap());
        let (client, _) = lab.pod("client").await;
        assert!(is_dropped(&policies, &client, &address.to_string(), 8080).await);
        assert!(ask(&lab.host, &address.to_string(), 8080).is_ok());
        assert!(ask(&pod, &free.to_string(), 8080).is_ok(), "only what comes in is held");
        let dropped = policies.dropped().await.unwrap();
        assert!(dropped.ingress > 0 && dropped.egress == 0, "{dropped:?}");
        policies.remove().await.unwrap();
        assert!(ask(&client, &address.to_string(), 8080).is_ok());

        // Where the kernel does not take the rules, who is subject to them does not come in.
        let mut owner = lab.hold_table("keel0-policies");
        let policies = Policies::open("keel0").await.unwrap();
        assert!(policies.replace(vec![deny]).await.is_err(), "the table is somebody else's");
        let refused = policies.admit("held".into(), one("x", address)).await.unwrap_err();
        assert_eq!(refused.to_string(), "cannot put network policies into force (nftables)");
        assert!(!policies.admit("free".into(), one("y", free)).await.unwrap());
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert!(policies.admit("held".into(), one("x", address)).await.unwrap());
        assert!(is_dropped(&policies, &client, &address.to_string(), 8080).await);
    });
}
