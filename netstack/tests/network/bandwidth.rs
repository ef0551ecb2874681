//! How fast pods may be: seen in what the kernel says that it counts, not in how long it takes.

use crate::machine::{Pod, link_index, on_fresh_machine, options};
use futures::TryStreamExt;
use netstack::{Namespace, Network, Rates};
use rtnetlink::Handle;
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What the kernel says of a link's bucket.
#[derive(Debug, Default, PartialEq)]
struct Bucket {
    kind: String,
    bytes_per_second: u32,
    bytes: u64,
    overlimits: u32,
}

async fn bucket(handle: &Handle, link: &str) -> Bucket {
    let index = i32::try_from(link_index(handle, link).await).unwrap();
    let all: Vec<_> = handle.qdisc().get().index(index).execute().try_collect().await.unwrap();
    let mut bucket = Bucket::default();
    let is_own =
        |message: &TcMessage| (message.header.index, message.header.parent) == (index, TcHandle::ROOT);
    let own = all.into_iter().filter(is_own);
    for attribute in own.flat_map(|message| message.attributes) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others say nothing of it")]
        match attribute {
            TcAttribute::Kind(kind) => bucket.kind = kind,
            TcAttribute::Options(options) => bucket.bytes_per_second = rate(&options),
            TcAttribute::Stats2(all) => {
                for stats in all {
                    match stats {
                        TcStats2::Basic(basic) => bucket.bytes = basic.bytes,
                        TcStats2::Queue(queue) => bucket.overlimits = queue.overlimits,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    bucket
}

/// Of `struct tc_tbf_qopt`, which is the first of the options, behind its head.
fn rate(options: &[TcOption]) -> u32 {
    let [TcOption::Other(all)] = options else { return 0 };
    let mut bytes = vec![0; all.value_len()];
    all.emit_value(&mut bytes);
    bytes.get(12..16).map_or(0, |rate| u32::from_ne_bytes(rate.try_into().unwrap()))
}

/// Sends so many bytes from one to the other.
fn send(from: &Pod, to: &Pod, address: std::net::IpAddr, bytes: usize) {
    let listener = to.run(|| TcpListener::bind(("0.0.0.0", 0)).unwrap());
    let at = SocketAddr::new(address, listener.local_addr().unwrap().port());
    let mut client = from.run(move || TcpStream::connect(at).unwrap());
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    client.write_all(&vec![7; bytes]).unwrap();
    drop(client);
    assert_eq!(reader.join().unwrap(), bytes);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_sends_and_receives_through_buckets_of_its_own() {
    const BYTES: usize = 512 * 1024;
    on_fresh_machine(async |host| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let (pod, other) = (Pod::new(), Pod::new());
        let at = network.attach("a", pod.pid()).await.unwrap();
        let there = network.attach("b", other.pid()).await.unwrap();
        let rates = Rates { ingress: Some(40_000_000), egress: Some(80_000_000) };
        let place = Namespace::Process(pod.pid());
        for _ in 0..2 {
            network.shape("a", (&place, "eth0"), rates).await.unwrap();
        }
        let inside = bucket(&pod.handle, "eth0").await;
        let outside = bucket(&host.handle, &at.host_interface).await;
        assert_eq!((inside.kind.as_str(), inside.bytes_per_second), ("tbf", 10_000_000));
        assert_eq!((outside.kind.as_str(), outside.bytes_per_second), ("tbf", 5_000_000));
        send(&pod, &other, there.addresses[0], BYTES);
        let sent = bucket(&pod.handle, "eth0").await;
        assert!(sent.bytes >= BYTES as u64 && sent.overlimits > 0, "{sent:?}");
        send(&other, &pod, at.addresses[0], BYTES);
        let received = bucket(&host.handle, &at.host_interface).await;
        assert!(received.bytes >= BYTES as u64 && received.overlimits > 0, "{received:?}");
        assert_ne!(
            bucket(&host.handle, &there.host_interface).await.kind,
            "tbf",
            "neighbours are as they were"
        );
        // A change holds at once, and so does the end of it.
        network.shape("a", (&place, "eth0"), Rates { ingress: Some(8_000), egress: None }).await.unwrap();
        assert_eq!(bucket(&host.handle, &at.host_interface).await.bytes_per_second, 1_000);
        assert_ne!(bucket(&pod.handle, "eth0").await.kind, "tbf");
        network.detach("a").await.unwrap();
        network.detach("b").await.unwrap();
    });
}
