//! For `benches/services.py`: programs services in the network namespace that it is started in, and
//! counts connections. Prints what took how long, in milliseconds, one `name value` per line.
//!
//!     services program BRIDGE SERVICES ENDPOINTS SERVER    SERVER: ADDRESS:PORT, who answers for the last
//!     services serve PORT
//!     services connect ADDRESS:PORT SECONDS

use netstack::{
    Endpoint, NodeView, Policy, ServiceName, ServiceNetwork, ServicePort, Services, ServicesOptions, Target,
    Transport,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How often one endpoint is changed.
const CHANGES: usize = 101;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["program", bridge, services, endpoints, server] => {
            let work = program(bridge, services.parse()?, endpoints.parse()?, server.parse()?);
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
        }
        ["serve", port] => serve(port.parse()?),
        ["connect", to, seconds] => connect(to.parse()?, seconds.parse()?),
        _ => Err("services program|serve|connect, see the source".into()),
    }
}

/// The services' addresses follow each other from 10.96.1.0 on; so do endpoints that nobody has,
/// from 10.200.0.0 on.
fn numbered(first: [u8; 4], number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + number).into()
}

fn name(number: u32) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("s{number}") }
}

fn service(number: u32, targets: impl Iterator<Item = Target>) -> Vec<ServicePort> {
    vec![ServicePort {
        transport: Transport::Tcp,
        port: 80,
        cluster_addresses: vec![numbered([10, 96, 1, 0], number)],
        external_addresses: Vec::new(),
        balancer: netstack::Balancer::default(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints: targets.map(Endpoint::ready).collect(),
    }]
}

fn far(number: u32, count: u32, first: u32) -> impl Iterator<Item = Target> {
    (first..first + count)
        .map(move |n| Target { address: numbered([10, 200, 0, 0], number * count + n), port: 8080 })
}

fn say(name: &str, value: f64) {
    println!("{name} {value:.4}");
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

async fn program(bridge: &str, count: u32, endpoints: u32, server: SocketAddr) -> Result<(), Box<dyn Error>> {
    let network = ServiceNetwork { address: [10, 96, 0, 0].into(), prefix: 16, source: None };
    let options = ServicesOptions { bridge: bridge.into(), networks: vec![network] };
    let node = NodeView { name: "here".into(), zone: None };
    let target = Target { address: server.ip(), port: server.port() };
    let mut all: BTreeMap<_, _> = (0..count).map(|n| (name(n), service(n, far(n, endpoints, 0)))).collect();
    let answered = service(count - 1, std::iter::repeat_n(target, 1));
    all.insert(name(count - 1), answered);
    let services = Services::open(options.clone()).await?;
    // The tables are there, as on any node that runs.
    services.replace(node.clone(), BTreeMap::new()).await?;
    let wanted = all.clone();
    let start = Instant::now();
    services.replace(node.clone(), wanted).await?;
    say("program", milliseconds(start));
    // One endpoint goes and another comes, of a service in the middle.
    let middle = count / 2;
    let mut times = Vec::with_capacity(CHANGES);
    for round in 0..CHANGES {
        let moved = u32::try_from(round % 2)?;
        let ports = service(middle, far(middle, endpoints, moved));
        let start = Instant::now();
        services.change(vec![(name(middle), ports)]).await?;
        times.push(milliseconds(start));
    }
    times.sort_by(f64::total_cmp);
    say("change", times[CHANGES / 2]);
    say("change_p90", times[CHANGES * 9 / 10]);
    drop(services);
    let start = Instant::now();
    let again = Services::open(options).await?;
    let applied = again.replace(node, all).await?;
    say("restart", milliseconds(start));
    if applied.rebuilt {
        return Err("a restart found the rules strange".into());
    }
    Ok(())
}

fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept()?;
        // A reset leaves no port waiting.
        setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    }
}

/// New connections, one after the other, each ended by the server at once.
fn connect(to: SocketAddr, seconds: f64) -> Result<(), Box<dyn Error>> {
    let time = Duration::from_secs_f64(seconds);
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < time {
        // Who goes on before the server did would find its queue full, and wait for a second.
        match TcpStream::connect(to) {
            Ok(mut stream) => drop(stream.read(&mut [0])),
            // It was there, and gone already.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error.into()),
        }
        count += 1;
    }
    say("per_second", f64::from(count) / start.elapsed().as_secs_f64());
    Ok(())
}
