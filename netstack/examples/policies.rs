//! For `benches/policies.py`: puts network policies into force in the network namespace that it is
//! started in. Prints what took how long, in milliseconds, one `name value` per line.
//!
//!     policies program BRIDGE POLICIES PODS HERE CLIENT SERVER    addresses of the last two pods
//!
//! As many namespaces as policies, each with one policy: its pods may be asked by pods of its own
//! namespace at port 8080, and by those of the next. `HERE` of the pods are on this node.

use netstack::Protocol;
use netstack::policies::{
    Labels, News, Peer, Policies, Policy, PolicyName, PolicyPod, Ports, Requirement, Rule, Selector,
};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// How often one thing is changed.
const CHANGES: u32 = 101;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["program", bridge, policies, pods, here, client, server] = words[..] else {
        return Err("policies program, see the source".into());
    };
    let counts = [policies.parse()?, pods.parse()?, here.parse()?];
    let work = program(bridge, counts, client.parse()?, server.parse()?);
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
}

fn namespace(number: u32) -> String {
    format!("n{number}")
}

fn policy(number: u32, count: u32) -> News {
    let next = Requirement::In("kubernetes.io/metadata.name".into(), vec![namespace((number + 1) % count)]);
    let own = Peer::Pods { namespaces: None, pods: Selector::default() };
    let others = Peer::Pods { namespaces: Some(Selector(vec![next])), pods: Selector::default() };
    let rule = Rule { peers: vec![own, others], ports: vec![Ports::Range(Protocol::Tcp, 8080, 8080)] };
    let name = PolicyName { namespace: namespace(number), name: "own".into() };
    News::Policy(name, Some(Policy { ingress: Some(vec![rule]), ..Policy::default() }))
}

fn pod(namespace_number: u32, address: IpAddr, here: bool) -> PolicyPod {
    let labels = Labels::from([("app".to_owned(), format!("a{namespace_number}"))]);
    let namespace = namespace(namespace_number);
    PolicyPod { namespace, labels, addresses: vec![address], here, ..PolicyPod::default() }
}

fn say(name: &str, value: f64) {
    println!("{name} {value:.4}");
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn program(
    bridge: &str,
    [count, pods, here]: [u32; 3],
    client: IpAddr,
    server: IpAddr,
) -> Result<(), Box<dyn Error>> {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number));
    let mut all: Vec<News> = (0..count).map(|number| policy(number, count)).collect();
    all.extend((0..pods).map(|number| {
        News::Pod(number.to_string(), Some(pod(number % count, address(number), number < here)))
    }));
    // Of the last namespace, so that they may talk.
    for (uid, address) in [("client", client), ("server", server)] {
        all.push(News::Pod(uid.into(), Some(pod(count - 1, address, true))));
    }
    let policies = Policies::open(bridge).await?;
    let wanted = all.clone();
    let start = Instant::now();
    let applied = policies.replace(wanted).await?;
    say("program", milliseconds(start));
    #[allow(clippy::cast_precision_loss, reason = "some ten thousand")]
    say("elements", applied.elements as f64);
    let mut times = [const { Vec::new() }; 3];
    for round in 0..CHANGES {
        // A pod elsewhere comes; one here is let in, which its start waits for; a policy changes.
        let far = pod(round % count, address(pods + 1 + round), false);
        let start = Instant::now();
        policies.change(vec![News::Pod(format!("far{round}"), Some(far))]).await?;
        times[0].push(milliseconds(start));
        let near = pod(0, address(pods + 1 + CHANGES + round), true);
        let start = Instant::now();
        policies.admit(format!("near{round}"), near).await?;
        times[1].push(milliseconds(start));
        if round < 11 {
            let ports = vec![Ports::Range(Protocol::Tcp, 8080, 8080 + u16::try_from(round)?)];
            let rule = Rule { peers: Vec::new(), ports };
            let name = PolicyName { namespace: namespace(0), name: "own".into() };
            let changed = Policy { ingress: Some(vec![rule]), ..Policy::default() };
            let start = Instant::now();
            policies.change(vec![News::Policy(name, Some(changed))]).await?;
            times[2].push(milliseconds(start));
        }
    }
    for (name, times) in ["far", "near", "policy"].into_iter().zip(times) {
        say(name, median(times));
    }
    policies.replace(all.clone()).await?;
    drop(policies);
    let start = Instant::now();
    let again = Policies::open(bridge).await?;
    let applied = again.replace(all).await?;
    say("restart", milliseconds(start));
    if (applied.removed, applied.added, applied.rebuilt) != (0, 0, false) {
        return Err(format!("a restart changed something: {applied:?}").into());
    }
    Ok(())
}
