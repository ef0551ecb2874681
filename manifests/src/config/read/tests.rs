use super::parse_configuration;
use crate::config::AgentConfiguration;
use crate::parse::SourceFile;
use std::time::Duration;

fn read(text: &str) -> Result<AgentConfiguration, Vec<(&'static str, String)>> {
    let file = SourceFile { path: "keel.yaml".into(), content: text.as_bytes().to_vec() };
    parse_configuration(file).map_err(|all| all.into_iter().map(|d| (d.code, d.field)).collect())
}

const HEAD: &str = "apiVersion: evenkeel.dev/v1alpha1\nkind: AgentConfiguration\n";

#[test]
fn what_is_left_out_has_defaults() {
    assert_eq!(read(HEAD), Ok(AgentConfiguration::default()));
}

#[test]
fn a_whole_configuration_is_read() {
    let text = format!(
        "{HEAD}nodeName: n1\nnodeLabels: {{zone: a}}\nstateDir: /tmp/s\nmetricsAddress: ''\nnetwork: {{bridge: k1, podCIDR: 10.1.0.0/24, mtu: 1400}}\n\
         sources:\n- name: apps\n  url: file:///srv/apps.git\n  branch: main\n  paths: [web]\n  interval: 1m30s\n  auth: {{tokenFile: /etc/token}}\n\
         - name: infra\n  url: git@example.org:infra.git\n"
    );
    let read = read(&text).unwrap();
    assert_eq!(read.sources[0].interval(), Duration::from_secs(90));
    assert_eq!(read.sources[1].interval(), Duration::from_secs(60));
    assert_eq!(read.network.pod_cidr, "10.1.0.0/24");
}

#[test]
fn dns_is_read_and_judged() {
    let dns = |text: &str| read(&format!("{HEAD}network: {{dns: {text}}}"));
    let good = "{clusterDomain: k8s.corp, upstreamNameservers: [9.9.9.9, '[fd00::1]:5353'], \
                stubDomains: {corp.example: [10.1.2.3]}, hosts: [{ip: 192.0.2.7, hostnames: [Printer.lan]}], \
                autopath: false, cacheSize: 0, serveStale: 0s}";
    let read = dns(good).unwrap().network.dns;
    assert_eq!(read.upstreams(), ["9.9.9.9:53".parse().unwrap(), "[fd00::1]:5353".parse().unwrap()]);
    assert_eq!(read.stubs(), [("corp.example".to_owned(), vec!["10.1.2.3:53".parse().unwrap()])]);
    assert_eq!(read.host_names(), [("192.0.2.7".parse().unwrap(), vec!["Printer.lan".to_owned()])]);
    assert_eq!((read.stale_time(), read.enabled), (Duration::ZERO, true));
    let bad = "{clusterDomain: -x, upstreamNameservers: [dns.google], stubDomains: {'a..b': []}, \
               hosts: [{ip: here, hostnames: []}, {ip: '::1', hostnames: ['a b']}], cacheSize: 9999999, \
               serveStale: long, ttl: 30}";
    let found = dns(bad).unwrap_err();
    for wanted in [
        ("bad-name", "network.dns.clusterDomain"),
        ("bad-address", "network.dns.upstreamNameservers[0]"),
        ("bad-name", "network.dns.stubDomains[a..b]"),
        ("bad-value", "network.dns.stubDomains[a..b]"),
        ("bad-address", "network.dns.hosts[0].ip"),
        ("bad-value", "network.dns.hosts[0].hostnames"),
        ("bad-name", "network.dns.hosts[1].hostnames[0]"),
        ("out-of-range", "network.dns.cacheSize"),
        ("bad-duration", "network.dns.serveStale"),
        ("unknown-field", "network.dns.ttl"),
    ] {
        assert!(found.contains(&(wanted.0, wanted.1.to_owned())), "{wanted:?} in {found:?}");
    }
    assert_eq!(found.len(), 10, "{found:?}");
}

#[test]
fn ingress_is_read_and_judged() {
    let ingress = |text: &str| read(&format!("{HEAD}ingress: {text}"));
    let all = ingress("{}").unwrap().ingress.unwrap();
    assert_eq!(
        (all.http_port, all.https_port, all.class_name.as_str(), all.default),
        (80, 443, "keel", true)
    );
    assert_eq!(
        (all.listen_address(), all.default_secret(), all.grace()),
        (None, None, Duration::from_secs(10))
    );
    let good = "{nodeSelector: {edge: 'true'}, address: '::1', httpPort: 0, className: web, default: false, \
                defaultCertificate: web/tls, publishAddresses: [192.0.2.1, lb.example.com], \
                trustedProxies: [10.0.0.0/8, 192.0.2.7], shutdownGracePeriod: 1m}";
    let said = ingress(good).unwrap().ingress.unwrap();
    assert_eq!(said.default_secret(), Some(("web", "tls")));
    assert_eq!(said.trusted()[1].prefix, 32);
    let bad = "{nodeSelector: {'a b': '*'}, address: here, httpPort: 443, className: A_B, \
               defaultCertificate: tls, publishAddresses: ['-'], trustedProxies: [10.0.0.1/8], \
               shutdownGracePeriod: soon, port: 80}";
    let found = ingress(bad).unwrap_err();
    for wanted in [
        ("bad-name", "ingress.nodeSelector[a b]"),
        ("bad-address", "ingress.address"),
        ("bad-value", "ingress.httpsPort"),
        ("bad-name", "ingress.className"),
        ("bad-name", "ingress.defaultCertificate"),
        ("bad-name", "ingress.publishAddresses[0]"),
        ("bad-address", "ingress.trustedProxies[0]"),
        ("bad-duration", "ingress.shutdownGracePeriod"),
        ("unknown-field", "ingress.port"),
    ] {
        assert!(found.contains(&(wanted.0, wanted.1.to_owned())), "{wanted:?} in {found:?}");
    }
    let found = ingress("{httpPort: 0, httpsPort: 0}").unwrap_err();
    assert_eq!(found, [("bad-value", "ingress".to_owned())]);
}

#[test]
fn every_error_is_told_at_once() {
    let text = format!(
        "{HEAD}nodename: x\nstateDir: var\ncgroupRoot: a/../b\nmetricsAddress: localhost\n\
         node:\n  kubeReserved: {{disk: 1Gi}}\n  systemReserved: {{cpu: '-1'}}\n\
         \x20 evictionHard: {{memory.free: '1', nodefs.available: 120%, pid.available: many}}\n\
         \x20 evictionSoft: {{memory.available: 1Gi}}\n  evictionPressureTransitionPeriod: soon\n\
         \x20 shutdownGracePeriod: 10s\n  shutdownGracePeriodCriticalPods: 20s\n\
         network: {{bridge: averylongbridgename, podCIDR: 10.88.0.1/16, mtu: 5}}\n\
         sources:\n- name: Apps\n  url: ftp://x/y\n  branch: a\n  tag: b\n  interval: 5\n\
         - name: b\n  url: https://u:p@h/x\n  commit: abc\n  interval: 10ms\n  paths: [../x]\n- name: b\n  url: ./here\n- {{}}\n"
    );
    let found = read(&text).unwrap_err();
    let wanted = [
        ("unknown-field", "nodename"),
        ("bad-path", "stateDir"),
        ("bad-path", "cgroupRoot"),
        ("bad-address", "metricsAddress"),
        ("bad-value", "node.kubeReserved[disk]"),
        ("bad-quantity", "node.systemReserved[cpu]"),
        ("bad-value", "node.evictionHard[memory.free]"),
        ("out-of-range", "node.evictionHard[nodefs.available]"),
        ("bad-quantity", "node.evictionHard[pid.available]"),
        ("missing-field", "node.evictionSoft[memory.available]"),
        ("bad-duration", "node.evictionPressureTransitionPeriod"),
        ("out-of-range", "node.shutdownGracePeriodCriticalPods"),
        ("bad-name", "network.bridge"),
        ("bad-cidr", "network.podCIDR"),
        ("out-of-range", "network.mtu"),
        ("bad-name", "sources[0].name"),
        ("bad-url", "sources[0].url"),
        ("several-references", "sources[0].tag"),
        ("wrong-type", "sources[0].interval"),
        ("bad-url", "sources[1].url"),
        ("bad-reference", "sources[1].commit"),
        ("bad-duration", "sources[1].interval"),
        ("bad-path", "sources[1].paths[0]"),
        ("missing-field", "sources[3].name"),
    ];
    for (code, field) in wanted {
        assert!(found.iter().any(|(c, f)| *c == code && f == field), "{code} {field} in {found:#?}");
    }
}

#[test]
fn another_document_is_refused() {
    for (text, code) in [
        ("", "not-a-configuration"),
        ("- a", "not-a-configuration"),
        ("a: b", "missing-field"),
        ("apiVersion: v1\nkind: Pod\n", "wrong-kind"),
        ("a: [", "yaml-syntax"),
        ("---\na: 1\n---\nb: 1\n", "not-a-configuration"),
    ] {
        let found = read(text).unwrap_err();
        assert!(found.iter().any(|(c, _)| *c == code), "{text:?}: {found:?}");
    }
}

#[test]
fn a_node_has_peers_only_if_it_is_said_and_how_they_find_it_is_checked() {
    assert_eq!(read(HEAD).unwrap().cluster, None);
    let cluster = read(&format!("{HEAD}cluster: {{}}\n")).unwrap().cluster.expect("there is one");
    assert_eq!(cluster.lifetime(), Duration::from_secs(30 * 24 * 3600));
    assert_eq!(cluster.grace(), Duration::from_secs(40));
    let joins = format!(
        "{HEAD}cluster: {{advertiseAddress: 'n1.example.com:7443', join: {{token: x, servers: ['192.0.2.1:7443', '[2001:db8::1]:7443', 'n2:7443']}}}}\n"
    );
    assert!(read(&joins).is_ok());
    let wrong = format!(
        "{HEAD}cluster:\n  listenAddress: here\n  advertiseAddress: 0.0.0.0:7443\n  certificateLifetime: 5m\n\
         \x20 nodeMonitorGracePeriod: 1s\n\
         \x20 join: {{token: a, tokenFile: b, servers: ['192.0.2.999:1', 'n1', 'https://n1:7443', 'n1:0']}}\n"
    );
    let wanted = [
        ("bad-address", "cluster.listenAddress"),
        ("bad-address", "cluster.advertiseAddress"),
        ("out-of-range", "cluster.certificateLifetime"),
        ("out-of-range", "cluster.nodeMonitorGracePeriod"),
        ("several-credentials", "cluster.join.tokenFile"),
        ("bad-address", "cluster.join.servers[0]"),
        ("bad-address", "cluster.join.servers[1]"),
        ("bad-address", "cluster.join.servers[2]"),
        ("bad-address", "cluster.join.servers[3]"),
    ];
    let found = read(&wrong).unwrap_err();
    let found: Vec<(&str, &str)> = found.iter().map(|(code, field)| (*code, field.as_str())).collect();
    assert_eq!(found, wanted);
    let nobody = read(&format!("{HEAD}cluster: {{join: {{tokenFile: t, servers: []}}}}\n")).unwrap_err();
    let codes: Vec<&str> = nobody.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["bad-path", "missing-field"]);
    let neither = read(&format!("{HEAD}cluster: {{join: {{servers: ['n1:1']}}}}\n")).unwrap_err();
    assert_eq!(neither, [("missing-field", "cluster.join".to_owned())]);
}

#[test]
fn pools_are_read_and_judged() {
    let pools = |text: &str| read(&format!("{HEAD}network: {{loadBalancer: {text}}}"));
    let good = "{interfaces: [eth0], pools: [{name: a, addresses: [192.0.2.10-192.0.2.50, '2001:db8::/112']}, \
                {name: b, addresses: [198.51.100.7], autoAssign: false, avoidBuggyIPs: true, announce: bgp}]}";
    let read = pools(good).unwrap().network.load_balancer;
    assert!(read.pools[0].auto_assign && !read.pools[1].auto_assign && read.pools[1].avoid_buggy_ips);
    let told = |text: &str| read.announcement(text.parse().unwrap());
    assert_eq!(told("192.0.2.50"), Some(crate::config::Announcement::Link));
    assert_eq!(told("198.51.100.7"), Some(crate::config::Announcement::Bgp));
    assert_eq!(told("198.51.100.8"), None);
    let bad = "{pools: [{name: A, addresses: [], announce: arp}, {name: b, addresses: [192.0.2.9-192.0.2.1, \
               10.96.1.0/24, 224.0.0.1, 192.0.2.7]}, {name: b, addresses: [192.0.2.0/24]}]}";
    let found = pools(bad).unwrap_err();
    for wanted in [
        ("bad-name", "network.loadBalancer.pools[0].name"),
        ("bad-value", "network.loadBalancer.pools[0].addresses"),
        ("bad-value", "network.loadBalancer.pools[0].announce"),
        ("bad-address", "network.loadBalancer.pools[1].addresses[0]"),
        ("bad-address", "network.loadBalancer.pools[1].addresses[1]"),
        ("bad-address", "network.loadBalancer.pools[1].addresses[2]"),
        ("duplicate-name", "network.loadBalancer.pools[2].name"),
        ("bad-address", "network.loadBalancer.pools[2].addresses[0]"),
    ] {
        assert!(found.contains(&(wanted.0, wanted.1.to_owned())), "{wanted:?} in {found:?}");
    }
    assert_eq!(found.len(), 8, "{found:?}");
}

#[test]
fn routers_are_read_and_judged() {
    let bgp = |text: &str| read(&format!("{HEAD}network: {{bgp: {text}}}"));
    let good = "{asn: 4200000001, routerID: 192.0.2.1, announce: [ServiceCIDR], gracefulRestartTime: 0s, peers: \
                [{address: '2001:db8::1', asn: 64512, holdTime: 9s, ebgpMultihop: true, passwordFile: /etc/pw, \
                nodeSelector: {rack: a}}]}";
    let read = bgp(good).unwrap().network.bgp.unwrap();
    assert_eq!((read.peers[0].port, read.peers[0].hold_time()), (179, Duration::from_secs(9)));
    assert_eq!(read.restart_time(), Duration::ZERO);
    assert!(read.announces(crate::config::BgpAnnouncement::ServiceCidr));
    assert!(!read.announces(crate::config::BgpAnnouncement::PodCidr));
    let bad = "{asn: 0, routerID: me, announce: [Pods], gracefulRestartTime: 2h, peers: [{address: r1, asn: 23456, \
               port: 0, holdTime: 1s, passwordFile: pw}, {address: 192.0.2.1, asn: 64512, sourceAddress: '::1'}, \
               {address: 192.0.2.1, asn: 64512}]}";
    let found = bgp(bad).unwrap_err();
    for wanted in [
        ("out-of-range", "network.bgp.asn"),
        ("bad-address", "network.bgp.routerID"),
        ("bad-value", "network.bgp.announce[0]"),
        ("bad-duration", "network.bgp.gracefulRestartTime"),
        ("bad-address", "network.bgp.peers[0].address"),
        ("out-of-range", "network.bgp.peers[0].asn"),
        ("out-of-range", "network.bgp.peers[0].port"),
        ("bad-duration", "network.bgp.peers[0].holdTime"),
        ("bad-path", "network.bgp.peers[0].passwordFile"),
        ("bad-address", "network.bgp.peers[1].sourceAddress"),
        ("duplicate-name", "network.bgp.peers[2].address"),
    ] {
        assert!(found.contains(&(wanted.0, wanted.1.to_owned())), "{wanted:?} in {found:?}");
    }
    assert_eq!(found.len(), 11, "{found:?}");
}
