//! What the parts of the agent are told, of what its configuration says.

use crate::cluster::Sharing;
use crate::metrics::Metrics;
use crate::node::registration::Machine;
use crate::node::resources::Resources;
use anyhow::Context as _;
use manifests::config::{AgentConfiguration, RuntimeConfiguration};
use runtime::image::ImageStore;
use runtime::image::registry::{Endpoint, Puller, Registries, RegistryHost};
use runtime::plan::{Handler, LogLimits, NodeFacts, NodeRules};
use runtime::pods::{OWN_PROGRAM, RuntimeOptions};
use std::ffi::OsString;
use std::sync::Arc;

pub(super) fn runtime_options(configuration: &AgentConfiguration) -> RuntimeOptions {
    RuntimeOptions {
        state_dir: configuration.state_dir.clone(),
        run_dir: configuration.run_dir.clone(),
        log_dir: configuration.log_dir.clone(),
        cgroup_root: configuration.cgroup_root.clone(),
        seccomp_profiles: configuration.security.profiles(&configuration.state_dir),
        supervisor: vec![OsString::from(OWN_PROGRAM), OsString::from(runtime::supervisor::COMMAND)],
    }
}

/// What fetches images: from peers too, if they are shared with some.
pub(super) fn puller(
    configuration: &AgentConfiguration,
    sharing: Option<&Sharing>,
    metrics: &Metrics,
) -> anyhow::Result<Puller> {
    let store = ImageStore::open(configuration.state_dir.join("images"));
    let store = store.and_then(|store| store.keeping_blobs(sharing.is_some()));
    let store = store.context("cannot open the image store")?;
    let images = &configuration.images;
    let hosts = images.registries.iter().map(|registry| {
        let mirrors = registry.mirrors.iter().map(|mirror| Endpoint {
            host: mirror.host.clone(),
            plain_http: mirror.plain_http || Endpoint::usual(&mirror.host).plain_http,
            ca_file: mirror.ca_file.clone(),
            skip_tls_verify: mirror.skip_tls_verify,
        });
        let origin = Endpoint {
            host: registry.host.clone(),
            plain_http: registry.plain_http,
            ca_file: registry.ca_file.clone(),
            skip_tls_verify: registry.skip_tls_verify,
        };
        RegistryHost { name: registry.host.clone(), mirrors: mirrors.collect(), origin }
    });
    let credentials_file = images.credentials_file.clone();
    let registries = Registries { hosts: hosts.collect(), credentials_file };
    let at_once = usize::try_from(images.max_parallel_image_pulls).unwrap_or(1);
    let puller =
        Puller::new(Arc::new(store), registries, at_once).counted_by(Arc::new(metrics.images.clone()));
    Ok(match sharing {
        Some(sharing) => puller.among(Arc::new(sharing.clone())),
        None => puller,
    })
}

pub(super) fn facts(configuration: &AgentConfiguration, machine: &Machine) -> NodeFacts {
    let allocatable = Resources::capacity(machine).allocatable(&configuration.node);
    NodeFacts {
        node_name: configuration.node_name.clone(),
        host_ips: machine.addresses.iter().map(ToString::to_string).collect(),
        state_dir: configuration.state_dir.clone(),
        log_dir: configuration.log_dir.clone(),
        log_limits: LogLimits {
            file_bytes: configuration.log_bytes(),
            files: configuration.container_log_max_files,
        },
        cgroup_root: configuration.cgroup_root.clone(),
        hidden: vec![configuration.state_dir.clone(), configuration.run_dir.clone()],
        cpu_millis: allocatable.cpu_millis,
        memory_bytes: allocatable.memory_bytes,
        storage_bytes: allocatable.storage_bytes,
        default_pids: Some(configuration.pod_pids_limit).filter(|&limit| limit > 0),
        rules: rules(configuration),
        dns: crate::dns::of_pods(configuration),
    }
}

fn handler(runtime: &RuntimeConfiguration) -> Handler {
    let mut arguments = runtime.arguments.clone();
    // The groups are made, and the container is born into its own.
    if runtime.path.file_name().is_some_and(|name| name == "crun") && arguments.is_empty() {
        arguments.push("--cgroup-manager=disabled".to_owned());
    }
    Handler { name: runtime.name.clone(), path: runtime.path.clone(), root: runtime.root.clone(), arguments }
}

/// What the configuration, and the kernel, say of pods' rights.
fn rules(configuration: &AgentConfiguration) -> NodeRules {
    let security = &configuration.security;
    // A kernel without AppArmor lacks the file.
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    NodeRules {
        seccomp_default: security.seccomp_default,
        allowed_unsafe_sysctls: security.allowed_unsafe_sysctls.clone(),
        cpu_period_us: security.cpu_period_us(),
        runtimes: configuration.runtimes.iter().map(handler).collect(),
        apparmor: apparmor.is_ok_and(|text| text.trim() == "Y"),
    }
}
