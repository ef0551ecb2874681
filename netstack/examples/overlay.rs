//! For `benches/network.py`: makes the network namespace that it is started in a node with pods, and
//! leaves it so, with no fast path if it is to be slow. Prints the address of each pod, one per line.
//!
//!     overlay fast|slow vxlan|host-gw|none POD-CIDR ADDRESS PEER-POD-CIDR PEER-ADDRESS PID...

use netstack::{
    Backend, Network, NetworkOptions, NodeView, Overlay, OverlayOptions, Peer, ServiceNetwork, Services,
    ServicesOptions, path_mtu,
};
use std::collections::BTreeMap;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(make(&words))
}

async fn make(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [speed, backend, own, address, peer_pods, peer, pids @ ..] = words else {
        return Err("overlay SPEED BACKEND CIDR ADDRESS CIDR ADDRESS PID..., see the source".into());
    };
    let backend = match backend.as_str() {
        "vxlan" => Backend::Vxlan { vni: 1, port: 4789 },
        "host-gw" => Backend::HostGateway,
        _ => Backend::None,
    };
    let (pod_cidrs, addresses) = (own.parse()?, vec![address.parse()?]);
    let mtu = path_mtu(backend, &addresses).await?;
    let bridge = "keel0".to_owned();
    let network = NetworkOptions {
        bridge: bridge.clone(),
        pod_cidrs,
        formers: Vec::new(),
        mtu,
        fast_path: speed == "fast",
    };
    let network = Network::open(network).await?;
    for pid in pids {
        let attached = network.attach(pid, pid.parse()?).await?;
        println!("{}", attached.addresses[0]);
    }
    // With services netfilter sees what goes from port to port of the bridge.
    let services = ServiceNetwork { address: [10, 96, 0, 0].into(), prefix: 16, source: None };
    let services = ServicesOptions { bridge: bridge.clone(), networks: vec![services] };
    let view = NodeView { name: "here".into(), zone: None };
    Services::open(services).await?.replace(view, BTreeMap::new()).await?;
    let options = OverlayOptions {
        bridge,
        backend,
        own: pod_cidrs,
        formers: Vec::new(),
        cluster: vec!["10.244.0.0/16".parse()?],
        addresses,
        masquerade: true,
        mtu: 0,
        private_key: None,
        fast_path: network.fast_path().cloned(),
    };
    let (name, addresses, pods) = ("peer".to_owned(), vec![peer.parse()?], vec![peer_pods.parse()?]);
    let peer = Peer { name, addresses, pods, public_key: None };
    let changed = Overlay::open(options).await?.replace(vec![peer]).await?;
    if let Some((name, why)) = changed.unreachable.first() {
        return Err(format!("{name}: {why}").into());
    }
    Ok(())
}
