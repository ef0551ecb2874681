//! Routers are told, and what they make of it: BIRD, which is on a link with the node.

mod bird;

use crate::machine::{Pod, on_fresh_machine};
use bird::{Bird, until};
use netstack::{BgpOptions, BgpPassword, BgpPeer, BgpState, BgpSummary, Speaker, Subnet};
use rtnetlink::{LinkUnspec, LinkVeth};
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

const ROUTER: &str = "192.0.2.1";
const NODE: &str = "192.0.2.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> BTreeSet<Subnet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn peer() -> BgpPeer {
    BgpPeer {
        address: ip(ROUTER),
        port: 179,
        asn: 64_512,
        hold_time: Duration::from_secs(9),
        multihop: false,
        password: None,
        source: None,
    }
}

fn options(asn: u32, peer: BgpPeer) -> BgpOptions {
    BgpOptions {
        asn,
        router_id: "192.0.2.2".parse().unwrap(),
        restart_time: Duration::from_secs(60),
        addresses: vec![],
        peers: vec![peer],
    }
}

/// A node that is wired to the router, which is the machine.
struct Site {
    node: Pod,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Site {
    async fn new(router: &Pod) -> Self {
        let node = Pod::new();
        for place in [router, &node] {
            place.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
        }
        router.handle.link().add(LinkVeth::new("node", "up0").up().build()).execute().await.unwrap();
        let there = LinkUnspec::new_with_name("up0").setns_by_pid(u32::try_from(node.pid()).unwrap());
        router.handle.link().set(there.build()).execute().await.unwrap();
        let up = LinkUnspec::new_with_name("up0").up().build();
        node.handle.link().set(up).execute().await.unwrap();
        for (place, link, last) in [(router, "node", 1), (&node, "up0", 2)] {
            place.add_address(link, &format!("192.0.2.{last}"), 24).await;
            place.add_address(link, &format!("fd02::{last}"), 64).await;
        }
        let build = || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(1).enable_all().build().unwrap()
        };
        let runtime = Some(node.run(build));
        Self { node, runtime }
    }

    /// A speaker on the node's own threads.
    async fn speak(&self, options: BgpOptions, routes: &[&str]) -> Speaker {
        let routes = nets(routes);
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(async move { Speaker::start(&options, routes) }).await.unwrap()
    }
}

async fn until_state(speaker: &Speaker, what: &str, is_it: impl Fn(&BgpSummary) -> bool) -> BgpSummary {
    let mut summaries = speaker.summaries();
    let found = summaries.wait_for(|all| is_it(&all[0]));
    let found = tokio::time::timeout(bird::DEADLINE, found).await;
    found.unwrap_or_else(|_| panic!("{what}: {:?}", speaker.summaries().borrow())).unwrap()[0].clone()
}

const ALL: [&str; 4] = ["10.244.1.0/24", "192.0.2.200/32", "2001:db8::7/128", "fd44:1::/64"];

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_router_learns_routes_of_both_families_and_hears_when_they_end() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start(&router, "") else { return };
        let speaker = site.speak(options(65_001, peer()), &ALL).await;
        until("all are known", || bird.routes() == ALL.map(String::from).into());
        let up = until_state(&speaker, "it is up", |s| s.state == BgpState::Established).await;
        assert_eq!((up.announced, up.established, up.last_error), ((2, 2), 1, None));
        let shown = bird.ask("show route all for 10.244.1.0/24");
        assert!(shown.contains("BGP.next_hop: 192.0.2.2") && shown.contains("BGP.as_path: 65001"), "{shown}");
        let shown = bird.ask("show route all for fd44:1::/64");
        assert!(shown.contains("BGP.next_hop: fd02::2"), "by the session's link: {shown}");
        // One goes, one comes.
        speaker.announce(nets(&["10.244.1.0/24", "2001:db8::7/128", "192.0.2.201/32"]));
        let wanted = ["10.244.1.0/24", "192.0.2.201/32", "2001:db8::7/128"];
        until("what changed is known", || bird.routes() == wanted.map(String::from).into());
        // What the router tells is not believed, and does no harm.
        let told = bird.ask("show protocols all node");
        assert!(told.contains("2 exported") || told.contains("1 exported"), "it told something: {told}");
        // The node stops for good.
        let runtime = site.runtime.as_ref().unwrap();
        runtime.spawn(speaker.shut_down()).await.unwrap();
        until("all are forgotten", || bird.routes().is_empty());
        let told = bird.ask("show protocols all node");
        assert!(told.contains("Administrative shutdown"), "{told}");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn routes_stay_while_the_agent_is_restarted() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start(&router, "") else { return };
        let speaker = site.speak(options(65_001, peer()), &ALL).await;
        until("all are known", || bird.routes() == ALL.map(String::from).into());
        drop(speaker);
        until("the session ended", || !bird.ask("show protocols node").contains("Established"));
        assert_eq!(bird.routes(), ALL.map(String::from).into(), "while nobody tells");
        // What is not told again goes when everything was told, and nothing else does.
        let speaker = site.speak(options(65_001, peer()), &ALL[..3]).await;
        until("it is told again", || {
            let routes = bird.routes();
            assert!(ALL[..3].iter().all(|route| routes.contains(*route)), "{routes:?}");
            routes.len() == 3
        });
        until_state(&speaker, "it is up", |s| s.state == BgpState::Established && s.announced == (2, 1))
            .await;
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_router_with_a_password_hears_only_who_signs() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start(&router, "password \"open sesame\";") else { return };
        let unsigned = site.node.run(|| {
            TcpStream::connect_timeout(&(ip(ROUTER), 179).into(), Duration::from_millis(300))
                .unwrap_err()
                .kind()
        });
        assert!(matches!(unsigned, std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock));
        let signed = BgpPeer { password: Some(BgpPassword(b"open sesame".to_vec())), ..peer() };
        let _speaker = site.speak(options(65_001, signed), &ALL).await;
        until("all are known", || bird.routes() == ALL.map(String::from).into());
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_session_over_ipv6_within_one_system_tells_of_both_families() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start_as(&router, "fd02::1", ("fd02::2", 64_512), "") else { return };
        let over_v6 = BgpPeer { address: ip("fd02::1"), ..peer() };
        let _speaker = site.speak(options(64_512, over_v6), &ALL).await;
        until("all are known", || bird.routes() == ALL.map(String::from).into());
        let shown = bird.ask("show route all for 10.244.1.0/24");
        assert!(shown.contains(&format!("BGP.next_hop: {NODE}")), "{shown}");
        assert!(shown.contains("BGP.local_pref: 100"), "{shown}");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_router_that_comes_back_is_told_again() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start(&router, "") else { return };
        let speaker = site.speak(options(65_001, peer()), &ALL).await;
        until("all are known", || bird.routes() == ALL.map(String::from).into());
        drop(bird);
        let lost = until_state(&speaker, "it is lost", |s| s.state != BgpState::Established).await;
        assert!(lost.last_error.is_some(), "{lost:?}");
        let bird = Bird::start(&router, "").unwrap();
        until("all are known again", || bird.routes() == ALL.map(String::from).into());
        let up = until_state(&speaker, "it is up", |s| s.state == BgpState::Established).await;
        assert_eq!((up.established, up.last_error), (2, None));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_router_that_expects_another_system_says_so() {
    on_fresh_machine(async |router| {
        let site = Site::new(&router).await;
        let Some(bird) = Bird::start(&router, "") else { return };
        let speaker = site.speak(options(65_099, peer()), &ALL).await;
        let refused = until_state(&speaker, "it is refused", |s| s.last_error.is_some()).await;
        let why = refused.last_error.unwrap();
        assert!(why.contains("the autonomous system is not the expected one (2/2)"), "{why}");
        assert!(bird.routes().is_empty());
        drop(speaker);
        let wrong = site.speak(options(65_001, BgpPeer { asn: 64_999, ..peer() }), &ALL).await;
        // The router rests for a second after the first.
        let said =
            |s: &BgpSummary| s.last_error.as_ref().is_some_and(|why| why.contains("64999 was expected"));
        until_state(&wrong, "it refuses", said).await;
    });
}
