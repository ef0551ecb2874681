//! Reads and checks the agent's own configuration.

use super::{AgentConfiguration, GitSource};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::names;
use crate::parse::SourceFile;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::{Findings, Report};
use crate::schema::{Checker, for_configuration};
use crate::source::Source;
use crate::yaml::{Content, compose};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

const API_VERSION: &str = "evenkeel.dev/v1alpha1";
const SCHEMES: [&str; 4] = ["file://", "https://", "http://", "ssh://"];

/// Reads the agent's configuration.
///
/// # Errors
/// Everything that is wrong with the file, in its order.
pub fn parse_configuration(file: SourceFile) -> Result<AgentConfiguration, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let configuration = match Source::new(&file) {
        Ok(source) => read(&source, &mut findings),
        Err(unreadable) => {
            findings.push(unreadable.diagnostic(&file.path));
            None
        }
    };
    findings.finish(&file.path);
    match configuration {
        Some(configuration) if findings.list.is_empty() => Ok(configuration),
        _ => Err(findings.list),
    }
}

fn read(source: &Source<'_>, findings: &mut Findings) -> Option<AgentConfiguration> {
    let composed = compose(source.text);
    let broken = !composed.errors.is_empty();
    for error in composed.errors {
        findings.syntax(source, error);
    }
    let [root] = composed.documents[..] else {
        if !broken {
            let message = match composed.documents.len() {
                0 => "the file is empty; an AgentConfiguration is expected".to_owned(),
                n => format!("the file holds {n} documents; one AgentConfiguration is expected"),
            };
            let wrong =
                crate::source::Unreadable { code: "not-a-configuration", message, line: 1, column: 1 };
            findings.push(wrong.diagnostic(source.path));
        }
        return None;
    };
    let mut report = Report::new(source, &composed.tree, root, findings);
    if !matches!(composed.tree.node(root).content, Content::Mapping(_)) {
        report.error(&Path::ROOT, "not-a-configuration", "expected a mapping");
        return None;
    }
    let shapes = for_configuration();
    let value = Checker::new(shapes, &mut report).check(root, shapes.only());
    for field in ["apiVersion", "kind"] {
        if value.get(field).is_none() {
            report.error(&Path::ROOT, "missing-field", format!("field `{field}` is missing"));
        }
    }
    match serde_json::from_value::<AgentConfiguration>(value) {
        Ok(configuration) => {
            check(&configuration, &mut report);
            Some(configuration)
        }
        Err(error) => {
            if !report.failed {
                report.error(&Path::ROOT, "wrong-type", error.to_string());
            }
            None
        }
    }
}

fn logs(configuration: &AgentConfiguration, report: &mut Report<'_>) {
    let size = Quantity::parse(&configuration.container_log_max_size);
    if !size.is_ok_and(|size| size.bytes_ceil() > 0) {
        let message = "expected an amount of bytes, as `10Mi`";
        report.error(&Path::ROOT.field("containerLogMaxSize"), "bad-value", message);
    }
    if configuration.container_log_max_files < 2 {
        let message = "at least 2: the file in use, and one that gave way to it";
        report.error(&Path::ROOT.field("containerLogMaxFiles"), "bad-value", message);
    }
}

fn check(configuration: &AgentConfiguration, report: &mut Report<'_>) {
    let root = &Path::ROOT;
    if configuration.api_version != API_VERSION {
        let help = Some(format!("use `{API_VERSION}`"));
        report.error_with(
            &root.field("apiVersion"),
            "wrong-api-version",
            "unknown version of the configuration",
            help,
        );
    }
    if configuration.kind != "AgentConfiguration" {
        let help = Some("use `AgentConfiguration`".to_owned());
        report.error_with(&root.field("kind"), "wrong-kind", "this is no configuration of the agent", help);
    }
    if !configuration.node_name.is_empty() {
        report.name(&root.field("nodeName"), &configuration.node_name, names::subdomain);
    }
    let labels = root.field("nodeLabels");
    for (key, value) in &configuration.node_labels {
        report.key(&labels.key(key), names::qualified);
        if let Err((rule, help)) = names::label_value(value) {
            report.error_with(&labels.key(key), "bad-name", format!("`{key}` {rule}"), help);
        }
    }
    super::taint::check(&configuration.register_with_taints, report);
    let folders = [
        ("stateDir", &configuration.state_dir),
        ("runDir", &configuration.run_dir),
        ("logDir", &configuration.log_dir),
    ];
    for (field, path) in folders {
        if !path.is_absolute() || path.components().any(|c| c == std::path::Component::ParentDir) {
            report.error(&root.field(field), "bad-path", "the folder must be an absolute path without `..`");
        }
    }
    cgroup_root(configuration, report);
    logs(configuration, report);
    if configuration.cri.socket.as_ref().is_some_and(|path| !path.is_absolute()) {
        report.error(&root.field("cri").field("socket"), "bad-path", "the socket must be an absolute path");
    }
    metrics(configuration, report);
    network(configuration, report);
    super::runtimes::check(&configuration.runtimes, &root.field("runtimes"), report);
    super::security::check(&configuration.security, &root.field("security"), report);
    super::images::check(&configuration.images, &root.field("images"), report);
    if let Some(cluster) = &configuration.cluster {
        super::cluster::check(cluster, &root.field("cluster"), report);
    }
    if let Some(ingress) = &configuration.ingress {
        super::ingress::check(ingress, &root.field("ingress"), report);
    }
    super::node::check(&configuration.node, &root.field("node"), report);
    sources(&configuration.sources, report);
}

/// Where metrics are served.
fn metrics(configuration: &AgentConfiguration, report: &mut Report<'_>) {
    let address = &configuration.metrics_address;
    if !address.is_empty() && address.parse::<SocketAddr>().is_err() {
        let help =
            Some("write it as ADDRESS:PORT, `127.0.0.1:10250` or `[::]:10250`; empty for none".to_owned());
        report.error_with(
            &Path::ROOT.field("metricsAddress"),
            "bad-address",
            "this is no address with a port",
            help,
        );
    }
}

fn cgroup_root(configuration: &AgentConfiguration, report: &mut Report<'_>) {
    let root = configuration.cgroup_root.trim_start_matches('/');
    if root.is_empty() || root.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        let message = "the cgroup must be a path below the hierarchy's root, without `.` and `..`";
        report.error(&Path::ROOT.field("cgroupRoot"), "bad-path", message);
    }
}

fn network(configuration: &AgentConfiguration, report: &mut Report<'_>) {
    let network = &configuration.network;
    let at = Path::ROOT.field("network");
    let bridge = &network.bridge;
    let valid = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    if bridge.is_empty() || bridge.len() > 15 || bridge == "." || bridge == ".." || !bridge.chars().all(valid)
    {
        let message = format!(
            "the bridge's name must have 1 to 15 bytes without blanks, `/` and `:`; it has {}",
            bridge.len()
        );
        report.error(&at.field("bridge"), "bad-name", message);
    }
    if network.mtu != 0 && !(576..=65_535).contains(&network.mtu) {
        let message = format!("{} is not between 576 and 65535", network.mtu);
        report.error_with(&at.field("mtu"), "out-of-range", message, Some("0 takes the kernel's".to_owned()));
    }
    super::network::check(configuration, &at, report);
    super::dns::check(&network.dns, &at.field("dns"), report);
    super::balancer::check(configuration, &at.field("loadBalancer"), report);
    if let Some(bgp) = &network.bgp {
        super::bgp::check(bgp, &at.field("bgp"), report);
    }
    super::cni::check(&network.cni, &at.field("cni"), report);
}

fn sources(sources: &[GitSource], report: &mut Report<'_>) {
    let list = Path::ROOT.field("sources");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, source) in sources.iter().enumerate() {
        let at = list.index(index);
        report.name(&at.field("name"), &source.name, names::label);
        if let Some(first) = seen.insert(&source.name, index) {
            let message = format!("source `{}` is here a second time", source.name);
            let help = Some(format!("it is first at sources[{first}]"));
            report.error_with(&at.field("name"), "duplicate-name", message, help);
        }
        self::source(source, &at, report);
    }
}

fn source(source: &GitSource, at: &Path<'_>, report: &mut Report<'_>) {
    if let Err((message, help)) = url(&source.url) {
        report.error_with(&at.field("url"), "bad-url", message, help);
    }
    let chosen = [("branch", &source.branch), ("tag", &source.tag), ("commit", &source.commit)];
    let given: Vec<&str> =
        chosen.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
    if let [_, second, ..] = given[..] {
        let message = format!("at most one of branch, tag and commit; here are {}", given.join(" and "));
        report.error(&at.field(second), "several-references", message);
    }
    for (name, value) in chosen {
        if value.as_ref().is_some_and(String::is_empty) {
            report.error(&at.field(name), "bad-reference", format!("the {name} is empty"));
        }
    }
    let full = |c: &String| matches!(c.len(), 40 | 64) && c.bytes().all(|b| b.is_ascii_hexdigit());
    if source.commit.as_ref().is_some_and(|c| !c.is_empty() && !full(c)) {
        let help = Some("`git rev-parse COMMIT` prints it".to_owned());
        report.error_with(
            &at.field("commit"),
            "bad-reference",
            "this is no full commit id (40 hex digits)",
            help,
        );
    }
    match duration::parse(&source.interval) {
        Some(interval) if interval >= Duration::from_secs(1) => {}
        found => {
            let message =
                if found.is_some() { "the interval is under a second" } else { "this is no duration" };
            let help = Some("write it like `30s`, `5m` or `1h30m`".to_owned());
            report.error_with(&at.field("interval"), "bad-duration", message, help);
        }
    }
    let paths = at.field("paths");
    for (index, path) in source.paths.iter().enumerate() {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            let message = "the path must lead from the repository's root downwards, without `..`";
            report.error(&paths.index(index), "bad-path", message);
        }
    }
    credentials(source, at, report);
}

fn credentials(source: &GitSource, at: &Path<'_>, report: &mut Report<'_>) {
    let auth = &source.auth;
    let at = at.field("auth");
    let files = [
        ("passwordFile", &auth.password_file),
        ("tokenFile", &auth.token_file),
        ("caFile", &auth.ca_file),
        ("sshKeyFile", &auth.ssh_key_file),
        ("knownHostsFile", &auth.known_hosts_file),
    ];
    for (field, path) in files {
        if path.as_ref().is_some_and(|p| !p.is_absolute()) {
            report.error(&at.field(field), "bad-path", "the file must be an absolute path");
        }
    }
    if auth.password_file.is_some() && auth.token_file.is_some() {
        report.error(
            &at.field("tokenFile"),
            "several-credentials",
            "at most one of passwordFile and tokenFile",
        );
    }
}

fn url(url: &str) -> Result<(), (String, Option<String>)> {
    let known = || Some(format!("use {}, user@host:path, or an absolute path", SCHEMES.join(", ")));
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) || url.is_empty() {
        return Err(("the URL is empty or holds a blank".to_owned(), known()));
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        if !SCHEMES.contains(&format!("{scheme}://").as_str()) {
            return Err((format!("the scheme `{scheme}` is not known"), known()));
        }
        let authority = rest.split('/').next().unwrap_or_default();
        return match (scheme, authority.rsplit_once('@')) {
            ("file", _) if !rest.starts_with('/') => {
                Err(("a file:// URL needs an absolute path".to_owned(), None))
            }
            ("https" | "http", Some((user, _))) if user.contains(':') => {
                let help = Some("put the password in a file and name it in `auth.passwordFile`".to_owned());
                Err(("the URL holds a password".to_owned(), help))
            }
            ("https" | "http" | "ssh", _) if authority.is_empty() => {
                Err(("the URL has no host".to_owned(), None))
            }
            _ => Ok(()),
        };
    }
    if url.starts_with('/') {
        return Ok(());
    }
    // user@host:path, as scp writes it.
    match url.split_once(':') {
        Some((host, path)) if host.contains('@') && !host.contains('/') && !path.is_empty() => Ok(()),
        _ => Err(("this is no URL of a repository".to_owned(), known())),
    }
}

impl GitSource {
    /// How often to look, as a duration of at least a second.
    #[must_use]
    pub fn interval(&self) -> Duration {
        duration::parse(&self.interval).unwrap_or(Duration::from_secs(60)).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests;
