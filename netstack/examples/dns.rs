//! For `benches/dns.py`: a name server with many services, the least that one can do, and a client.
//! Servers say `ready` and run until they are killed.
//!
//!     dns serve ADDRESS:PORT DOMAIN SERVICES [UPSTREAM]   NAME.default.svc.DOMAIN: s0, s1…
//!     dns echo ADDRESS:PORT                               sends every packet back, as an answer
//!     dns ask ADDRESS:PORT NAME SECONDS                   one question after the other

use netstack::{
    Dns, DnsNames, DnsOptions, DnsSockets, NamedPort, PodNames, ServiceName, ServiceNames, Transport,
    Upstream,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", at, domain, services] => serve(at.parse()?, domain, services.parse()?, Vec::new()),
        ["serve", at, domain, services, upstream] => {
            serve(at.parse()?, domain, services.parse()?, vec![upstream.parse()?])
        }
        ["echo", at] => echo(at.parse()?),
        ["ask", to, name, seconds] => ask(to.parse()?, name, seconds.parse()?),
        _ => Err("dns serve|echo|ask, see the source".into()),
    }
}

fn serve(
    at: SocketAddr,
    domain: &str,
    services: u32,
    upstreams: Vec<SocketAddr>,
) -> Result<(), Box<dyn Error>> {
    let options = DnsOptions {
        domain: domain.into(),
        addresses: Vec::new(),
        networks: vec![(Ipv4Addr::new(10, 96, 0, 0).into(), 16)],
        hosts: Vec::new(),
        upstream: Upstream::Servers(upstreams),
        stub_domains: Vec::new(),
        cache_entries: 10_000,
        serve_stale: Duration::from_secs(3600),
        autopath: true,
        serial: 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let names = (0..services).map(|number| {
            let address = IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + number));
            let ports = vec![NamedPort { name: "http".into(), transport: Transport::Tcp, number: 80 }];
            let name = ServiceName { namespace: "default".into(), name: format!("s{number}") };
            (name, ServiceNames::Cluster { addresses: vec![address], ports })
        });
        let searches = [format!("default.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        let pod = PodNames { namespace: "default".into(), searches: searches.into() };
        let pods = BTreeMap::from([(Ipv4Addr::LOCALHOST.into(), vec![pod])]);
        let names = DnsNames { services: names.collect(), pods };
        let _dns = Dns::start(&options, names, vec![DnsSockets::bind(at)?], std::sync::Arc::default())?;
        println!("ready");
        std::future::pending::<()>().await;
        Ok(())
    })
}

fn echo(at: SocketAddr) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(at)?;
    println!("ready");
    let mut packet = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        packet[2] |= 0x80;
        socket.send_to(&packet[..length], from)?;
    }
}

fn ask(to: SocketAddr, name: &str, seconds: f64) -> Result<(), Box<dyn Error>> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        packet.push(u8::try_from(label.len())?);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let start = Instant::now();
    let mut took = Vec::new();
    let mut answer = [0; 2048];
    while start.elapsed().as_secs_f64() < seconds {
        let [high, low] = u16::try_from(took.len() % 65_536)?.to_be_bytes();
        (packet[0], packet[1]) = (high, low);
        let begun = Instant::now();
        socket.send(&packet)?;
        let length = socket.recv(&mut answer)?;
        took.push(begun.elapsed());
        if length < 12 || answer[..2] != packet[..2] {
            return Err("another answer".into());
        }
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1e6;
    println!("p50 {:.1}\np99 {:.1}\ncount {}", at(50), at(99), took.len());
    Ok(())
}
