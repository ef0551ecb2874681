//! Pods whose network other programs make: which ones, and what they are told.

use super::Node;
use super::host_ports;
use crate::chain::chain;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use manifests::bandwidth::Bandwidth;
use manifests::config::{AgentConfiguration, CniMode};
use netstack::cni::{Choice, ChoiceError, Cni, CniError, CniOptions, CniPod, NetworkList};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After how long plugins are asked again that did not take back what they made.
const RETRY: Duration = Duration::from_secs(60);
/// What may go at once, as a part of what goes in a second.
const BURSTS_PER_SECOND: u64 = 100;
/// What may go at once, whatever the rate, in bits: a segment before it is cut.
const LEAST_BURST: u64 = 8 * 64 * 1024;
/// Plugins count bursts in 32 bits.
const MOST_BURST: u64 = u32::MAX as u64;

/// Why plugins cannot make a pod's network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginsError {
    /// Wait for one.
    #[error("there is no CNI network in {} yet, and network.cni.mode is always", .folder.display())]
    NoNetwork {
        /// Where it should be.
        folder: PathBuf,
    },
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    #[error(transparent)]
    Cni(#[from] CniError),
}

/// The plugins of this node.
#[derive(Debug)]
pub(crate) struct Plugins {
    cni: Cni,
    mode: CniMode,
    folder: PathBuf,
    /// What was said of the folder last.
    said: Mutex<String>,
}

impl Plugins {
    /// As the configuration has them. Nothing is called yet.
    pub(crate) fn of(configuration: &AgentConfiguration) -> Self {
        let wanted = &configuration.network.cni;
        let mode = wanted.mode();
        let options = CniOptions {
            networks: wanted.conf_dir.clone(),
            plugins: wanted.bin_dirs.clone(),
            all: mode == CniMode::Always,
            state_dir: configuration.state_dir.clone(),
            run_dir: configuration.run_dir.clone(),
            timeout: wanted.plugin_timeout(),
        };
        Self { cni: Cni::new(options), mode, folder: wanted.conf_dir.clone(), said: Mutex::default() }
    }

    /// The network of a pod that is to be made now; nothing if it is the built-in one.
    pub(crate) fn network(&self) -> Result<Option<NetworkList>, PluginsError> {
        if self.mode == CniMode::Never {
            return Ok(None);
        }
        let choice = self.cni.choose()?;
        self.tell(&choice);
        match choice.network {
            Some((_, list)) => Ok(Some(list)),
            None if self.mode == CniMode::Always => {
                Err(PluginsError::NoNetwork { folder: self.folder.clone() })
            }
            None => Ok(None),
        }
    }

    /// Each change is said once.
    fn tell(&self, choice: &Choice) {
        let mut words: Vec<String> = Vec::new();
        for (path, owner) in &choice.passed_over {
            words.push(format!("{} is {owner}'s own network and is passed over", path.display()));
        }
        words.push(match &choice.network {
            Some((path, list)) => {
                let kinds: Vec<_> = list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
                format!(
                    "pods are joined to network {} of {} by {}",
                    list.name,
                    path.display(),
                    kinds.join(", ")
                )
            }
            None => "pods are joined to the built-in network".to_owned(),
        });
        let words = words.join("; ");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != words {
            tracing::info!("{words}");
            *said = words;
        }
    }

    /// Which plugins the pod is joined by already, if it is.
    pub(crate) fn joined(&self, uid: &str) -> Result<Option<NetworkList>, PluginsError> {
        Ok(self.cni.joined(uid)?)
    }

    /// As [`Cni::all_joined`].
    pub(crate) fn all_joined(&self) -> BTreeMap<String, String> {
        self.cni.all_joined()
    }

    /// As [`Cni::add`].
    pub(crate) async fn join(&self, list: &NetworkList, pod: &CniPod) -> Result<Vec<IpAddr>, PluginsError> {
        Ok(self.cni.add(list, pod).await?.addresses)
    }

    /// As [`Cni::del`].
    pub(crate) async fn leave(&self, uid: &str) -> Result<bool, PluginsError> {
        Ok(self.cni.del(uid).await?)
    }

    /// Whether new pods can be joined, and why not.
    pub(crate) fn state(&self) -> Result<(), PluginsError> {
        self.network().map(drop)
    }
}

/// What a pod asks of its network.
#[derive(Debug, Default)]
pub(crate) struct Wishes<'a> {
    /// Protocol, address and port of the node, and the pod's port.
    pub(crate) ports: Vec<(&'a str, &'a str, u16, u16)>,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) dns: Option<&'a PodDNSConfig>,
    pub(crate) annotations: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Wishes<'a> {
    pub(crate) fn of(pod: &'a Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        let ports = host_ports::wanted(pod).into_iter().filter_map(|(port, host_port)| {
            let host_ip = port.host_ip.as_deref().unwrap_or_default();
            let pod_port = u16::try_from(port.container_port).ok()?;
            Some((port.protocol.as_deref().unwrap_or("TCP"), host_ip, host_port, pod_port))
        });
        Self {
            ports: ports.collect(),
            // What says no speed was refused before it came here.
            bandwidth: annotations.and_then(|all| Bandwidth::of(all).ok()).unwrap_or_default(),
            dns: pod.spec.as_ref().and_then(|spec| spec.dns_config.as_ref()),
            annotations,
        }
    }

    /// By capability, as the conventions of the CNI have them.
    pub(crate) fn capabilities(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let ports = self.ports.iter().map(|(protocol, host_ip, host_port, pod_port)| {
            json!({"protocol": protocol.to_ascii_lowercase(), "hostIP": host_ip, "hostPort": host_port,
                "containerPort": pod_port})
        });
        let ports: Vec<_> = ports.collect();
        if !ports.is_empty() {
            all.insert("portMappings".into(), Value::Array(ports));
        }
        let mut bandwidth = Map::new();
        let rates = [("ingress", self.bandwidth.ingress), ("egress", self.bandwidth.egress)];
        for (way, rate) in rates.into_iter().filter_map(|(way, rate)| Some((way, rate?))) {
            let burst = (rate / BURSTS_PER_SECOND).clamp(LEAST_BURST, MOST_BURST);
            bandwidth.insert(format!("{way}Rate"), rate.into());
            bandwidth.insert(format!("{way}Burst"), burst.into());
        }
        if !bandwidth.is_empty() {
            all.insert("bandwidth".into(), Value::Object(bandwidth));
        }
        if let Some(dns) = self.dns {
            let option = |option: &k8s_openapi::api::core::v1::PodDNSConfigOption| {
                let name = option.name.clone().unwrap_or_default();
                option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}"))
            };
            let options: Vec<_> = dns.options.iter().flatten().map(option).collect();
            let dns = json!({"servers": dns.nameservers, "searches": dns.searches, "options": options});
            all.insert("dns".into(), dns);
        }
        if let Some(annotations) = self.annotations {
            all.insert("io.kubernetes.cri.pod-annotations".into(), json!(annotations));
        }
        all
    }

    /// Which of them no plugin of the network takes, in words; nothing if all are taken.
    pub(crate) fn missing(&self, list: &NetworkList) -> Option<String> {
        let wanted = [
            ("portMappings", "hostPort", !self.ports.is_empty()),
            ("bandwidth", "bandwidth annotations", self.bandwidth != Bandwidth::default()),
        ];
        let missing =
            wanted.into_iter().filter(|(capability, _, is)| *is && !list.has_capability(capability));
        let missing: Vec<_> = missing
            .map(|(capability, what, _)| format!("{what} need a plugin with the capability {capability}"))
            .collect();
        let of = format!("and network {} has none", list.name);
        (!missing.is_empty()).then(|| format!("{}, {of}", missing.join("; ")))
    }
}

/// Plugins have taken back what they made for pods that are gone, and are asked again if they could
/// not; those that are there are looked after once. Until `stop`.
///
/// # Errors
/// Never: what plugins refuse is said.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) -> anyhow::Result<()> {
    let plugins = &node.network.plugins;
    let mut said = BTreeSet::new();
    let work = async {
        loop {
            let (gone, errors) = plugins.cni.sweep(|| live(&node)).await;
            if !gone.is_empty() {
                tracing::info!(?gone, "plugins took back what they had made for pods that are gone");
            }
            for error in &errors {
                let text = chain(error);
                if said.insert(text.clone()) {
                    tracing::warn!(
                        error = text,
                        "plugins did not take back what they made; they are asked again"
                    );
                }
            }
            if errors.is_empty() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    let look = async {
        for uid in live(&node) {
            if let Err(error) = plugins.cni.check(&uid).await {
                tracing::warn!(
                    uid,
                    error = chain(&error),
                    "the network of a pod is not as its plugins left it"
                );
            }
        }
    };
    stop.run_until_cancelled(async {
        tokio::join!(work, look);
    })
    .await;
    stop.cancelled().await;
    Ok(())
}

/// The pods that there are, or are to be.
fn live(node: &Node) -> BTreeSet<String> {
    let mut live: BTreeSet<String> = node.runtime.observe().into_keys().collect();
    live.extend(node.pods().iter().map(|pod| pod.uid().to_owned()));
    live
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_asks_for_is_told_in_the_words_of_the_conventions() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"annotations": {"kubernetes.io/egress-bandwidth": "10M"}},
            "spec": {
                "dnsConfig": {"nameservers": ["10.0.0.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]},
                "containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "::"},
                    {"containerPort": 81}]}],
            },
        }))
        .expect("a pod");
        let wishes = Wishes::of(&pod);
        let capabilities = wishes.capabilities();
        let port = json!([{"protocol": "tcp", "hostIP": "::", "hostPort": 8080, "containerPort": 80}]);
        assert_eq!(capabilities["portMappings"], port);
        assert_eq!(capabilities["bandwidth"], json!({"egressRate": 10_000_000, "egressBurst": 524_288}));
        assert_eq!(capabilities["dns"]["options"], json!(["ndots:2", "x"]));
        let list = |text: &str| NetworkList::parse(text.as_bytes()).expect("a network");
        let bare =
            list(r#"{"name": "n", "plugins": [{"type": "bridge", "capabilities": {"bandwidth": true}}]}"#);
        assert_eq!(
            wishes.missing(&bare).as_deref(),
            Some("hostPort need a plugin with the capability portMappings, and network n has none")
        );
        assert!(Wishes::default().capabilities().is_empty() && Wishes::default().missing(&bare).is_none());
    }
}
