//! Who the node's peers are, and where they find it.

use crate::duration;
use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Under an hour, a node that is restarted would often find itself without a certificate.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(3600);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// A node is heard each second; one that is busy is sometimes late.
const SHORTEST_GRACE: Duration = Duration::from_secs(4);
/// Source: `kube-controller-manager --node-monitor-grace-period`.
const DEFAULT_GRACE: Duration = Duration::from_secs(40);

/// The node's part in a cluster. A node without it has no peers, and listens to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterConfiguration {
    /// Where peers are answered, `ADDRESS:PORT`.
    pub listen_address: String,
    /// Where peers find this node, `HOST:PORT`; `listenAddress` if empty, and there an address
    /// of the machine in place of `0.0.0.0` and `[::]`.
    pub advertise_address: String,
    /// How long a node's certificate is good, as `720h`; it is renewed after two thirds of it.
    pub certificate_lifetime: String,
    /// How long a node may be silent before it is NotReady, as `40s`. What the leader has counts.
    pub node_monitor_grace_period: String,
    /// How the node becomes a member of a cluster that is there already. Without it, the first
    /// start makes a cluster of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinConfiguration>,
}

impl Default for ClusterConfiguration {
    fn default() -> Self {
        Self {
            listen_address: "0.0.0.0:7443".into(),
            advertise_address: String::new(),
            certificate_lifetime: "720h".into(),
            node_monitor_grace_period: "40s".into(),
            join: None,
        }
    }
}

/// Used while the node has no certificate; afterwards it is without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinConfiguration {
    /// What `keel token create` printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A file that holds it; read at each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Members of the cluster, `HOST:PORT`; asked in turn until one lets the node in.
    pub servers: Vec<String>,
}

impl ClusterConfiguration {
    /// `certificateLifetime` as a duration.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        duration::parse(&self.certificate_lifetime).unwrap_or(DEFAULT_LIFETIME)
    }

    /// `nodeMonitorGracePeriod` as a duration.
    #[must_use]
    pub fn grace(&self) -> Duration {
        duration::parse(&self.node_monitor_grace_period).unwrap_or(DEFAULT_GRACE)
    }
}

/// Whether `text` is `HOST:PORT`, with a port that something can listen on.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().is_unspecified();
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let numeric = host.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    port.parse::<u16>().is_ok_and(|port| port != 0)
        && names::subdomain(host).is_ok()
        && (!numeric || host.parse::<IpAddr>().is_ok())
}

pub(super) fn check(cluster: &ClusterConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    if cluster.listen_address.parse::<SocketAddr>().is_err() {
        let help = Some("write it as ADDRESS:PORT, `0.0.0.0:7443` or `[::]:7443`".to_owned());
        let message = "this is no address with a port";
        report.error_with(&at.field("listenAddress"), "bad-address", message, help);
    }
    let advertised = &cluster.advertise_address;
    if !advertised.is_empty() && !is_host_and_port(advertised) {
        host_and_port(advertised, &at.field("advertiseAddress"), report);
    }
    let wanted = (SHORTEST_LIFETIME, "a certificate is good for an hour at least", "720h");
    at_least(&cluster.certificate_lifetime, wanted, &at.field("certificateLifetime"), report);
    let wanted = (SHORTEST_GRACE, "a node may be silent for 4 s at least", "40s");
    at_least(&cluster.node_monitor_grace_period, wanted, &at.field("nodeMonitorGracePeriod"), report);
    if let Some(join) = &cluster.join {
        self::join(join, &at.field("join"), report);
    }
}

fn at_least(
    text: &str,
    (least, message, example): (Duration, &str, &str),
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    let help = || Some(format!("write it as `{example}`"));
    match duration::parse(text) {
        Some(given) if given >= least => {}
        Some(_) => report.error_with(at, "out-of-range", message, help()),
        None => report.error_with(at, "bad-duration", format!("`{text}` is no duration"), help()),
    }
}

fn join(join: &JoinConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    match (&join.token, &join.token_file) {
        (None, None) => {
            let help = Some("`keel token create` on a member of the cluster prints one".to_owned());
            report.error_with(at, "missing-field", "one of token and tokenFile is needed", help);
        }
        (Some(_), Some(_)) => {
            let message = "at most one of token and tokenFile";
            report.error(&at.field("tokenFile"), "several-credentials", message);
        }
        (None, Some(path)) if !path.is_absolute() => {
            report.error(&at.field("tokenFile"), "bad-path", "the file must be an absolute path");
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if join.servers.is_empty() {
        report.error(&at.field("servers"), "missing-field", "name at least one member of the cluster");
    }
    let servers = at.field("servers");
    for (index, server) in join.servers.iter().enumerate() {
        if !is_host_and_port(server) {
            host_and_port(server, &servers.index(index), report);
        }
    }
}

fn host_and_port(text: &str, at: &Path<'_>, report: &mut Report<'_>) {
    let help = Some("write it as HOST:PORT, `192.0.2.1:7443` or `node-1.example.com:7443`".to_owned());
    report.error_with(at, "bad-address", format!("`{text}` is no address of a peer"), help);
}
