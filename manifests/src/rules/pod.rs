//! Pod specifications, of pods and of templates.

use super::{container, metadata, security, volume};
use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use std::collections::HashMap;

pub(super) fn check(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    check_with_volumes(spec, &[], at, report);
}

/// Like [`check`] where `more` volumes are there than the specification names.
pub(super) fn check_with_volumes(spec: &PodSpec, more: &[&str], at: &Path<'_>, report: &mut Report<'_>) {
    words(spec, at, report);
    names_and_numbers(spec, at, report);
    if spec.containers.is_empty() {
        report.error(&at.field("containers"), "missing-field", "a pod needs at least one container");
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|c| !c.is_empty()) {
        let message = "ephemeral containers are added to a running pod, not written in a manifest";
        report.error(&at.field("ephemeralContainers"), "not-allowed", message);
    }
    security::pod(spec, at, report);
    volume::check(spec.volumes.as_deref().unwrap_or_default(), &at.field("volumes"), report);
    containers(spec, more, at, report);
    host_ports(spec, at, report);
}

fn words(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let policies = ["Always", "OnFailure", "Never"];
    report.one_of(&at.field("restartPolicy"), spec.restart_policy.as_deref(), &policies);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    report.one_of(&at.field("dnsPolicy"), spec.dns_policy.as_deref(), &policies);
    let name_servers =
        spec.dns_config.as_ref().and_then(|c| c.nameservers.as_ref()).is_some_and(|n| !n.is_empty());
    if spec.dns_policy.as_deref() == Some("None") && !name_servers {
        report.error(&at.field("dnsPolicy"), "missing-field", "dnsPolicy None needs `dnsConfig.nameservers`");
    }
    let policies = ["PreemptLowerPriority", "Never"];
    report.one_of(&at.field("preemptionPolicy"), spec.preemption_policy.as_deref(), &policies);
    if let Some(os) = &spec.os {
        report.one_of(&at.field("os.name"), Some(&os.name), &["linux", "windows"]);
    }
    let list = at.field("tolerations");
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let at = list.index(index);
        report.one_of(
            &at.field("operator"),
            toleration.operator.as_deref(),
            &["", "Exists", "Equal", "Lt", "Gt"],
        );
        let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
        report.one_of(&at.field("effect"), toleration.effect.as_deref(), &effects);
        if toleration.operator.as_deref() == Some("Exists")
            && toleration.value.as_ref().is_some_and(|v| !v.is_empty())
        {
            report.error(
                &at.field("value"),
                "not-allowed",
                "a toleration with operator Exists takes no value",
            );
        }
    }
}

fn names_and_numbers(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    type Check = fn(&str) -> Result<(), names::Wrong>;
    let words: [(&str, &Option<String>, Check); 6] = [
        ("hostname", &spec.hostname, names::label),
        ("subdomain", &spec.subdomain, names::label),
        ("nodeName", &spec.node_name, names::subdomain),
        ("serviceAccountName", &spec.service_account_name, names::subdomain),
        ("priorityClassName", &spec.priority_class_name, names::subdomain),
        ("runtimeClassName", &spec.runtime_class_name, names::subdomain),
    ];
    for (field, name, check) in words {
        if let Some(name) = name.as_ref().filter(|n| !n.is_empty()) {
            report.name(&at.field(field), name, check);
        }
    }
    metadata::labels(spec.node_selector.as_ref(), &at.field("nodeSelector"), report);
    report.not_negative(&at.field("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds);
    let deadline = spec.active_deadline_seconds;
    report.between(&at.field("activeDeadlineSeconds"), deadline, 1, i32::MAX.into());
    let list = at.field("imagePullSecrets");
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        report.not_empty(&list.index(index).field("name"), &secret.name);
    }
    let list = at.field("hostAliases");
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            let message = format!("`{}` is no IP address", alias.ip);
            report.error(&list.index(index).field("ip"), "bad-address", message);
        }
    }
}

/// Both lists of containers, which share one space of names.
fn containers(spec: &PodSpec, more: &[&str], at: &Path<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, (&str, usize)> = HashMap::new();
    let volumes: Vec<&str> =
        spec.volumes.iter().flatten().map(|v| v.name.as_str()).chain(more.iter().copied()).collect();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (field, list) in [("initContainers", init), ("containers", spec.containers.as_slice())] {
        let path = at.field(field);
        for (index, one) in list.iter().enumerate() {
            let at_container = path.index(index);
            if let Some((list, index)) = seen.get(one.name.as_str()) {
                let first = at.field(list);
                let first = first.index(*index);
                report.duplicate(&at_container.field("name"), "container", &one.name, &first.field("name"));
            } else if !one.name.is_empty() {
                seen.insert(&one.name, (field, index));
            }
            container::check(one, &volumes, &at_container, report);
            if field == "initContainers" {
                init_container(one, &at_container, report);
            }
        }
    }
}

/// What an init container that ends cannot have.
fn init_container(container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    if container.restart_policy.as_deref() == Some("Always") {
        return;
    }
    let given = [
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    for (field, given) in given {
        if given {
            let message = format!("`{field}` is not allowed in an init container that ends");
            report.error(&at.field(field), "not-allowed", message);
        }
    }
}

/// No two containers of a pod may claim one port of the host.
fn host_ports(spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<(i32, &str, &str), (usize, usize)> = HashMap::new();
    let list = at.field("containers");
    for (c, container) in spec.containers.iter().enumerate() {
        let at = list.index(c);
        let ports = at.field("ports");
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|p| *p != 0) else { continue };
            let at = ports.index(p);
            if spec.host_network == Some(true) && host != port.container_port {
                let message = "with hostNetwork, hostPort must be the same as containerPort";
                report.error(&at.field("hostPort"), "bad-value", message);
            }
            let protocol = port.protocol.as_deref().unwrap_or_default();
            if protocol == "SCTP" && spec.host_network != Some(true) {
                let message = "ports of the node are not led to pods by SCTP: by TCP and UDP they are";
                report.error(&at.field("protocol"), "not-supported", message);
            }
            let key = (host, protocol, port.host_ip.as_deref().unwrap_or_default());
            if let Some((c, p)) = seen.insert(key, (c, p)) {
                let first = list.index(c);
                let first = first.field("ports");
                let first = first.index(p);
                report.duplicate(&at, "host port", &host.to_string(), &first);
            }
        }
    }
}
