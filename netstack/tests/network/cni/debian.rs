//! Debian's plugins, where they are installed.

use super::asked;
use super::plugins::{Folder, on_own_mounts};
use crate::machine::{Pod, links, on_fresh_machine};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Debian's folder.
const DEBIAN: &str = "/usr/lib/cni";

/// A bridge, a variable of the kernel, and buckets.
fn network(data: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "lab",
        "plugins": [
            {"type": "bridge", "bridge": "lab0", "isGateway": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": data, "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]}},
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "capabilities": {"mac": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ],
    })
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn debians_plugins_join_pods_and_take_it_back() {
    if !Path::new(DEBIAN).join("bridge").exists() {
        println!("SKIPPED: {DEBIAN}/bridge is not there: install containernetworking-plugins");
        return;
    }
    on_own_mounts(|| {
        on_fresh_machine(async |host| {
            let folder = Folder::new();
            let data = folder.path().join("ipam");
            folder.put("net.d/10-lab.conflist", &network(&data).to_string());
            let cni = folder.debian(DEBIAN);
            let (_, list) = cni.choose().unwrap().network.unwrap();
            let (a, b) = (Pod::new(), Pod::new());
            let mut joined = Vec::new();
            for (uid, pod) in [("pod-a", &a), ("pod-b", &b)] {
                let bandwidth = json!({"ingressRate": 80_000_000, "ingressBurst": 800_000});
                let mut asked = asked(uid, pod);
                asked.capabilities = [("bandwidth".to_owned(), bandwidth)].into_iter().collect();
                joined.push(cni.add(&list, &asked).await.unwrap());
            }
            let texts = |at: usize| joined[at].addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(
                (texts(0), texts(1)),
                (vec!["10.9.0.2".to_owned(), "fd09::2".into()], vec!["10.9.0.3".into(), "fd09::3".into()])
            );
            assert_eq!(a.meets(&b, joined[1].addresses[0]), joined[0].addresses[0]);
            assert_eq!(
                host.meets(&a, joined[0].addresses[0]),
                "10.9.0.1".parse::<std::net::IpAddr>().unwrap()
            );
            let tuned = a.run(|| std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap());
            assert_eq!(tuned.trim(), "500");
            for uid in ["pod-a", "pod-b"] {
                cni.check(uid).await.unwrap();
            }
            drop((a, b));
            for uid in ["pod-a", "pod-b"] {
                assert!(cni.del(uid).await.unwrap());
            }
            let leases: Vec<_> =
                std::fs::read_dir(data.join("lab")).unwrap().flatten().map(|file| file.file_name()).collect();
            let taken = leases
                .iter()
                .filter(|name| {
                    name.to_str().is_some_and(|name| name.starts_with("10.") || name.starts_with("fd"))
                })
                .count();
            assert_eq!(taken, 0, "{leases:?}");
            let left: BTreeSet<_> = ["lab0", "lo"].map(str::to_owned).into();
            assert_eq!(links(&host.handle).await, left);
            assert_eq!(folder.left(), BTreeSet::new());
        });
    });
}
