//! One container.

use super::{environment, probe, security};
use crate::image::Reference;
use crate::names;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use crate::suggest::did_you_mean;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::{BTreeMap, HashMap};

/// `volumes` are the names of the pod's volumes.
pub(super) fn check(container: &Container, volumes: &[&str], at: &Path<'_>, report: &mut Report<'_>) {
    report.name(&at.field("name"), &container.name, names::label);
    image(container, at, report);
    let policies = ["Always", "IfNotPresent", "Never"];
    report.one_of(&at.field("imagePullPolicy"), container.image_pull_policy.as_deref(), &policies);
    let policies = ["File", "FallbackToLogsOnError"];
    report.one_of(
        &at.field("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &policies,
    );
    let policies = ["Always", "OnFailure", "Never"];
    report.one_of(&at.field("restartPolicy"), container.restart_policy.as_deref(), &policies);
    ports(container, at, report);
    environment::check(container, at, report);
    mounts(container, volumes, at, report);
    if let Some(found) = &container.resources {
        resources(found, &at.field("resources"), report);
    }
    probe::check(container, at, report);
    if let Some(context) = &container.security_context {
        security::container(context, &at.field("securityContext"), report);
    }
}

fn image(container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    match container.image.as_deref().unwrap_or_default() {
        "" => report.error(at, "missing-field", "field `image` is missing"),
        image => {
            if let Err(error) = Reference::parse(image) {
                report.error(&at.field("image"), "bad-image", error.to_string());
            }
        }
    }
}

fn ports(container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    let list = at.field("ports");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let at = list.index(index);
        report.between(&at.field("containerPort"), Some(port.container_port), 1, 65_535);
        report.between(
            &at.field("hostPort"),
            port.host_port.filter(|p| *p != 0 && *p != port.container_port),
            1,
            65_535,
        );
        report.one_of(&at.field("protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
        if let Some(ip) = port.host_ip.as_ref().filter(|ip| !ip.is_empty())
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            report.error(&at.field("hostIP"), "bad-address", format!("`{ip}` is no IP address"));
        }
        let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) else { continue };
        report.name(&at.field("name"), name, names::port_name);
        if let Some(first) = seen.insert(name, index) {
            report.duplicate(&at.field("name"), "port", name, &list.index(first).field("name"));
        }
    }
}

fn mounts(container: &Container, volumes: &[&str], at: &Path<'_>, report: &mut Report<'_>) {
    let list = at.field("volumeMounts");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = list.index(index);
        report.not_empty(&at.field("name"), &mount.name);
        if !mount.name.is_empty() && !volumes.contains(&mount.name.as_str()) {
            let help = did_you_mean(&mount.name, volumes.iter().copied()).or_else(|| match volumes {
                [] => Some("the pod has no volumes".to_owned()),
                all => Some(format!("the pod has {}", all.join(", "))),
            });
            let message = format!("there is no volume `{}` in this pod", mount.name);
            report.error_with(&at.field("name"), "unknown-volume", message, help);
        }
        let path = at.field("mountPath");
        report.not_empty(&path, &mount.mount_path);
        if mount.mount_path.contains(':') {
            report.error(&path, "bad-path", "the path must not contain `:`");
        }
        if !mount.mount_path.is_empty()
            && let Some(first) = seen.insert(&mount.mount_path, index)
        {
            report.duplicate(&path, "mount path", &mount.mount_path, &list.index(first).field("mountPath"));
        }
        passing(mount, container, &at, report);
        if let Some(sub) = mount.sub_path.as_deref().filter(|p| !p.is_empty()) {
            if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
                report.error(&at.field("subPath"), "bad-path", "the path must lead downwards, without `..`");
            }
            if mount.sub_path_expr.as_ref().is_some_and(|p| !p.is_empty()) {
                report.error(
                    &at.field("subPathExpr"),
                    "not-allowed",
                    "at most one of subPath and subPathExpr",
                );
            }
        }
    }
}

/// Whom a mount lets write, and what passes through it.
fn passing(mount: &VolumeMount, container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    let propagation = mount.mount_propagation.as_deref();
    let path = at.field("mountPropagation");
    report.one_of(&path, propagation, &["None", "HostToContainer", "Bidirectional"]);
    let context = container.security_context.as_ref();
    if propagation == Some("Bidirectional") && context.and_then(|c| c.privileged) != Some(true) {
        let message = "Bidirectional is for privileged containers only";
        report.error(&path, "not-allowed", message);
    }
    let recursive = mount.recursive_read_only.as_deref();
    let path = at.field("recursiveReadOnly");
    report.one_of(&path, recursive, &["Disabled", "IfPossible", "Enabled"]);
    if matches!(recursive, Some("IfPossible" | "Enabled")) {
        if mount.read_only != Some(true) {
            report.error(&path, "not-allowed", "it says something only where `readOnly` is true");
        }
        if propagation.is_some_and(|propagation| propagation != "None") {
            report.error(&path, "not-allowed", "it does not go with `mountPropagation`");
        }
    }
    let list = at.field("bindMountOptions");
    for (index, option) in mount.bind_mount_options.iter().flatten().enumerate() {
        report.one_of(&list.index(index), Some(option), &["noexec", "nodev", "nosuid"]);
    }
}

fn resources(resources: &ResourceRequirements, at: &Path<'_>, report: &mut Report<'_>) {
    let limits = amounts(resources.limits.as_ref(), &at.field("limits"), report);
    let path = at.field("requests");
    let requests = amounts(resources.requests.as_ref(), &path, report);
    for (name, request) in &requests {
        let Some(limit) = limits.get(name) else { continue };
        if request > limit {
            let message = format!("requests {request} of {name}, more than its limit of {limit}");
            report.error(&path.key(name), "request-above-limit", message);
        }
    }
}

/// The amounts by resource; names and amounts are checked.
fn amounts<'r>(
    amounts: Option<&'r BTreeMap<String, Text>>,
    at: &Path<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<&'r str, Quantity> {
    let mut read = BTreeMap::new();
    for (name, text) in amounts.into_iter().flatten() {
        let at = at.key(name);
        if !report.is_written(&at) {
            // A request that is the default from a limit, which is judged itself.
            continue;
        }
        resource_name(name, &at, report);
        // The structure check has refused what is no quantity.
        let Ok(quantity) = Quantity::parse(&text.0) else { continue };
        if quantity.is_negative() {
            report.error(&at, "out-of-range", format!("{quantity} must not be negative"));
        }
        let whole = !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if whole && !quantity.is_whole() {
            report.error(&at, "bad-quantity", format!("{quantity} of {name} is not a whole number"));
        }
        if name == "memory" && text.0.ends_with('m') {
            let help = Some(format!("did you mean `{}Mi`?", text.0.trim_end_matches('m')));
            report.warn_with(&at, "odd-quantity", "`m` means thousandths of a byte here", help);
        }
        read.insert(name.as_str(), quantity);
    }
    read
}

fn resource_name(name: &str, at: &Path<'_>, report: &mut Report<'_>) {
    const OWN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    if OWN.contains(&name) || name.starts_with("hugepages-") {
        return;
    }
    if name.contains('/') {
        report.key(at, names::qualified);
        return;
    }
    let help =
        did_you_mean(name, OWN).or_else(|| Some("known are cpu, memory and ephemeral-storage".to_owned()));
    report.error_with(at, "unknown-resource", format!("there is no resource `{name}`"), help);
}
