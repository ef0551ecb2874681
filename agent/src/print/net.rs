//! `keel net`: who has which address, and where packets go. Pure.

use super::table::Table;
use crate::announce::Announced;
use crate::net::{FlowLine, NodeLine, Outcome, Overview, PodLine, ServiceLine, Step, Trace};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Blanks before the steps of a path.
const INDENT: &str = "  ";
/// The longest word for a place.
const WIDTH: usize = 8;

/// Nodes, and the ways to their pods.
pub(crate) fn nodes(overview: &Overview) -> String {
    let mut table = Table { heads: vec!["NODE", "STATUS", "ADDRESSES", "PODS", "WAY"], rows: Vec::new() };
    for NodeLine { name, ready, addresses, pod_networks, ways } in &overview.nodes {
        let status = if *ready { "Ready" } else { "NotReady" };
        let ways = if ways.is_empty() { "none".into() } else { ways.join(", ") };
        table.rows.push(vec![name.clone(), status.into(), list(addresses), list(pod_networks), ways]);
    }
    table.render()
}

/// Pods of the node, and their links.
pub(crate) fn pods(overview: &Overview) -> String {
    let mut table = Table { heads: vec!["NAMESPACE", "POD", "ADDRESSES", "LINK"], rows: Vec::new() };
    for PodLine { namespace, name, addresses, link, fault } in &overview.pods {
        let link = match (link, fault) {
            (None, None) => "the node's network".into(),
            (None, Some(fault)) => fault.clone(),
            (Some(link), None) => link.clone(),
            (Some(link), Some(fault)) => format!("{link}, which {fault}"),
        };
        table.rows.push(vec![namespace.clone(), name.clone(), list(addresses), link]);
    }
    table.render()
}

/// Ports of services, and where they lead.
pub(crate) fn services(overview: &Overview) -> String {
    let mut table = Table { heads: vec!["NAMESPACE", "SERVICE", "AT", "LEADS TO"], rows: Vec::new() };
    for ServiceLine { namespace, name, at, endpoints, outcome } in &overview.services {
        let leads = outcome.clone().unwrap_or_else(|| list(endpoints));
        table.rows.push(vec![namespace.clone(), name.clone(), at.clone(), leads]);
    }
    table.render()
}

/// For whom the node answers on its links, and what routers are told.
pub(crate) fn announced(overview: &Overview) -> String {
    let Announced { links, nowhere, routers } = &overview.announced;
    let list = |all: &BTreeSet<IpAddr>| list(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut answered = Table { heads: vec!["LINK", "ANSWERS FOR"], rows: Vec::new() };
    answered.rows.extend(links.iter().map(|(link, all)| vec![link.clone(), list(all)]));
    if !nowhere.is_empty() {
        answered.rows.push(vec!["<none>".into(), list(nowhere)]);
    }
    let heads = vec!["ROUTER", "ASN", "STATE", "SINCE", "PREFIXES", "LAST ERROR"];
    let mut told = Table { heads, rows: Vec::new() };
    told.rows.extend(routers.iter().map(|router| {
        let error = router.last_error.clone().unwrap_or_default();
        let (address, asn) = (router.address.to_string(), router.asn.to_string());
        vec![address, asn, router.state.clone(), router.since.to_string(), router.prefixes.to_string(), error]
    }));
    let tables = [answered, told].into_iter().filter(|table| !table.rows.is_empty());
    tables.map(|table| table.render()).collect::<Vec<_>>().join("\n")
}

/// Connections that go past netfilter.
pub(crate) fn flows(overview: &Overview) -> String {
    let Some(flows) = &overview.fast_path else {
        return "this node has no fast path: network.fastPath is false, or its log says why\n".into();
    };
    let mut table = Table { heads: vec!["FROM", "POD", "TO", "POD", "PACKETS"], rows: Vec::new() };
    let pod = |pod: &Option<String>| pod.clone().unwrap_or_else(|| "<none>".into());
    for FlowLine { from, from_pod, to, to_pod, packets } in flows {
        table.rows.push(vec![from.clone(), pod(from_pod), to.clone(), pod(to_pod), packets.to_string()]);
    }
    table.render()
}

/// All of it, but for connections.
pub(crate) fn overview(overview: &Overview) -> String {
    let Overview { node, backend, bridge, mtu, fast_path, .. } = overview;
    let bridge =
        if *mtu == 0 { format!("{bridge}, which is not up") } else { format!("{bridge}, MTU {mtu}") };
    let fast = match fast_path {
        Some(flows) if flows.len() == 1 => "fast path, 1 flow".into(),
        Some(flows) => format!("fast path, {} flows", flows.len()),
        None => "no fast path".into(),
    };
    let mut text = format!("node {node}; pods are on bridge {bridge}; backend {backend}; {fast}\n");
    let parts = [nodes(overview), pods(overview), services(overview), announced(overview)];
    // Heads alone say nothing.
    for part in parts.into_iter().filter(|part| part.lines().count() > 1) {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "<none>".into() } else { words.join(",") }
}

/// Each step of each way, and what it comes to.
pub(crate) fn trace(trace: &Trace) -> String {
    let mut text: String = trace.steps.iter().map(|step| line("", step)).collect();
    for path in &trace.paths {
        text.push_str(&format!("{}, {}\n", path.to, path.whose));
        text.extend(path.steps.iter().map(|step| line(INDENT, step)));
    }
    let lost = trace.paths.iter().filter(|path| !path.arrives()).count();
    let told = match (trace.paths.len(), lost) {
        (0, _) => "nothing arrives".to_owned(),
        _ if trace.arrives() => "what is sent arrives, as far as this node can see".into(),
        (all, 0) => format!("some of what is sent does not arrive; {all} ways do"),
        (1, _) => "what is sent does not arrive".into(),
        (all, lost) => format!("{lost} of {all} ways do not arrive"),
    };
    text + "=> " + &told + "\n"
}

fn line(indent: &str, step: &Step) -> String {
    let outcome = match step.outcome {
        Outcome::Passes => "",
        Outcome::Refused => "REFUSED: ",
        Outcome::Dropped => "DROPPED: ",
        Outcome::Unknown => "? ",
    };
    format!("{indent}{:WIDTH$}  {outcome}{}\n", step.place, step.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Path;

    #[test]
    fn what_goes_past_netfilter_is_told_with_its_pods() {
        let mut seen = Overview { node: "n1".into(), ..Overview::default() };
        assert!(overview(&seen).ends_with("; no fast path\n"));
        assert!(flows(&seen).contains("network.fastPath is false, or its log says why"));
        let (from, to, pod) = ("10.0.0.2:4711".into(), "192.0.2.7:80".into(), Some("x/web-0".into()));
        seen.fast_path = Some(vec![FlowLine { from, from_pod: pod, to, to_pod: None, packets: 12 }]);
        assert!(overview(&seen).ends_with("; fast path, 1 flow\n"));
        let text = flows(&seen);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["10.0.0.2:4711", "x/web-0", "192.0.2.7:80", "<none>", "12"]);
    }

    #[test]
    fn a_trace_says_at_which_step_a_packet_ends() {
        let step = |place: &str, outcome, text: &str| Step::new(place, outcome, text);
        let path = |outcome| Path {
            to: "10.0.0.2:80".into(),
            whose: "pod x/web on n2".into(),
            steps: vec![step("egress", Outcome::Passes, "fine"), step("ingress", outcome, "why")],
        };
        let mut told = Trace {
            steps: vec![step("service", Outcome::Passes, "leads to one of 2 endpoints")],
            paths: vec![path(Outcome::Passes), path(Outcome::Dropped)],
        };
        let text = trace(&told);
        assert!(text.contains("10.0.0.2:80, pod x/web on n2\n  egress    fine\n"), "{text}");
        assert!(
            text.contains("  ingress   DROPPED: why") && text.ends_with("=> 1 of 2 ways do not arrive\n")
        );
        told.paths.truncate(1);
        assert!(trace(&told).ends_with("as far as this node can see\n"));
        told.paths.clear();
        assert!(trace(&told).ends_with("=> nothing arrives\n"));
    }
}
