//! A sandbox's configuration as the Pod that the runtime plans from. Pure.

use super::v1;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodDNSConfig, PodDNSConfigOption, PodSecurityContext, PodSpec, SeccompProfile, Sysctl,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tonic::Status;
use v1::NamespaceMode;

/// Metadata that is there, with a name and a namespace.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn metadata(config: &v1::PodSandboxConfig) -> Result<&v1::PodSandboxMetadata, Status> {
    let missing = |what| Status::invalid_argument(format!("the sandbox's {what} is missing"));
    let metadata = config.metadata.as_ref().ok_or_else(|| missing("metadata"))?;
    if metadata.name.is_empty() {
        return Err(missing("metadata.name"));
    }
    Ok(metadata)
}

fn security(config: &v1::PodSandboxConfig) -> v1::LinuxSandboxSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

/// The namespaces that the sandbox was asked to have.
pub(super) fn namespaces(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    security(config).namespace_options.unwrap_or_default()
}

/// True if the sandbox has the host's network.
pub(super) fn has_host_network(config: &v1::PodSandboxConfig) -> bool {
    namespaces(config).network() == NamespaceMode::Node
}

/// The Pod of a sandbox, without a container.
///
/// # Errors
/// `InvalidArgument` if the configuration contradicts itself, or wants what cannot be had.
pub(super) fn pod(id: &str, config: &v1::PodSandboxConfig) -> Result<Pod, Status> {
    let metadata = metadata(config)?;
    let wanted = security(config);
    let namespaces = namespaces(config);
    check_user_namespace(&namespaces)?;
    let sysctls = config.linux.iter().flat_map(|linux| &linux.sysctls);
    let sysctls = sysctls.map(|(name, value)| Sysctl { name: name.clone(), value: value.clone() });
    let context = PodSecurityContext { sysctls: Some(sysctls.collect()), ..PodSecurityContext::default() };
    let spec = PodSpec {
        hostname: Some(config.hostname.clone()).filter(|name| !name.is_empty()),
        host_network: Some(has_host_network(config)),
        host_ipc: Some(namespaces.ipc() == NamespaceMode::Node),
        host_pid: Some(namespaces.pid() == NamespaceMode::Node),
        share_process_namespace: Some(shares_processes(config)),
        host_users: user_namespace_is_own(&namespaces).then_some(false),
        dns_policy: Some(config.dns_config.as_ref().map_or("Default", |_| "None").to_owned()),
        dns_config: config.dns_config.as_ref().map(dns),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(PodSecurityContext {
            seccomp_profile: wanted.seccomp.as_ref().map(seccomp),
            ..context
        }),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta {
        uid: Some(id.to_owned()),
        name: Some(metadata.name.clone()),
        namespace: Some(metadata.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        ..ObjectMeta::default()
    };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

/// True if the sandbox was asked for one PID namespace for all its containers. One that says
/// nothing of namespaces was not, though an empty message would say so.
fn shares_processes(config: &v1::PodSandboxConfig) -> bool {
    let asked = security(config).namespace_options;
    asked.is_some_and(|options| options.pid() == NamespaceMode::Pod)
}

/// The host's id of the sandbox's root and how many ids it has, if it has users of its own.
pub(super) fn user_ids(config: &v1::PodSandboxConfig) -> Option<(u32, u32)> {
    let options = namespaces(config).userns_options.filter(|one| one.mode() == NamespaceMode::Pod)?;
    options.uids.first().map(|mapping| (mapping.host_id, mapping.length))
}

fn user_namespace_is_own(namespaces: &v1::NamespaceOption) -> bool {
    namespaces.userns_options.as_ref().is_some_and(|options| options.mode() == NamespaceMode::Pod)
}

fn check_user_namespace(namespaces: &v1::NamespaceOption) -> Result<(), Status> {
    let Some(options) = &namespaces.userns_options else { return Ok(()) };
    match options.mode() {
        NamespaceMode::Node => Ok(()),
        NamespaceMode::Pod => {
            if options.uids.len() != 1 || options.gids.len() != 1 {
                return Err(Status::invalid_argument(
                    "a user namespace has one mapping of uids and one of gids",
                ));
            }
            let zero = options.uids.iter().chain(&options.gids).all(|mapping| mapping.container_id == 0);
            if !zero || options.uids != options.gids {
                return Err(Status::invalid_argument(
                    "a user namespace maps the same range of uids and gids, from 0 on",
                ));
            }
            Ok(())
        }
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(Status::invalid_argument("a user namespace is the pod's or the node's"))
        }
    }
}

fn dns(config: &v1::DnsConfig) -> PodDNSConfig {
    let option = |text: &String| {
        let (name, value) = text.split_once(':').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
        PodDNSConfigOption { name: Some(name.to_owned()), value: value.map(str::to_owned) }
    };
    PodDNSConfig {
        nameservers: Some(config.servers.clone()),
        searches: Some(config.searches.clone()),
        options: Some(config.options.iter().map(option).collect()),
    }
}

/// The profile in Kubernetes' words.
pub(super) fn seccomp(profile: &v1::SecurityProfile) -> SeccompProfile {
    let (type_, localhost_profile) = profile_words(profile);
    SeccompProfile { type_, localhost_profile }
}

/// The profile in Kubernetes' words: as it is said now, or else by `word`, as it was before that.
pub(super) fn app_armor(profile: Option<&v1::SecurityProfile>, word: &str) -> Option<AppArmorProfile> {
    let (type_, localhost_profile) = match (profile, word) {
        (Some(profile), _) => profile_words(profile),
        (None, "") => return None,
        (None, "runtime/default") => ("RuntimeDefault".to_owned(), None),
        (None, "unconfined") => ("Unconfined".to_owned(), None),
        (None, name) => ("Localhost".to_owned(), Some(name.to_owned())),
    };
    // The prefix is left from annotations; some send it still.
    let name = localhost_profile.map(|name| name.strip_prefix("localhost/").unwrap_or(&name).to_owned());
    Some(AppArmorProfile { type_, localhost_profile: name })
}

fn profile_words(profile: &v1::SecurityProfile) -> (String, Option<String>) {
    use v1::security_profile::ProfileType;
    let word = match profile.profile_type() {
        ProfileType::RuntimeDefault => "RuntimeDefault",
        ProfileType::Unconfined => "Unconfined",
        ProfileType::Localhost => return ("Localhost".to_owned(), Some(profile.localhost_ref.clone())),
    };
    (word.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(namespaces: v1::NamespaceOption) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata { name: "web".into(), ..Default::default() }),
            dns_config: Some(v1::DnsConfig {
                servers: vec!["10.10.10.10".into()],
                options: vec!["ndots:8".into(), "rotate".into()],
                ..Default::default()
            }),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn namespaces_of_the_node_are_the_hosts() {
        let node = i32::from(NamespaceMode::Node);
        let options = v1::NamespaceOption { network: node, ipc: node, ..Default::default() };
        let pod = pod("id", &config(options)).expect("a pod");
        let spec = pod.spec.expect("a specification");
        assert_eq!((spec.host_network, spec.host_ipc, spec.host_pid), (Some(true), Some(true), Some(false)));
        let dns = spec.dns_config.and_then(|dns| dns.options).expect("options");
        let words: Vec<_> = dns.iter().map(|one| (one.name.as_deref(), one.value.as_deref())).collect();
        assert_eq!(words, [(Some("ndots"), Some("8")), (Some("rotate"), None)]);
    }

    #[test]
    fn a_profile_of_apparmor_is_said_in_the_new_way_or_the_old() {
        let local = |name: &str| v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::Localhost.into(),
            localhost_ref: name.to_owned(),
        };
        let words = |profile: Option<&v1::SecurityProfile>, word: &str| {
            app_armor(profile, word).map(|one| (one.type_, one.localhost_profile.unwrap_or_default()))
        };
        let said = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
        assert_eq!(words(Some(&local("localhost/new")), "localhost/old"), said("Localhost", "new"));
        assert_eq!(words(Some(&local("new")), ""), said("Localhost", "new"));
        assert_eq!(words(None, "localhost/old"), said("Localhost", "old"));
        assert_eq!(words(None, "runtime/default"), said("RuntimeDefault", ""));
        assert_eq!(words(None, "unconfined"), said("Unconfined", ""));
        assert_eq!(words(None, ""), None);
    }

    #[test]
    fn a_user_namespace_has_one_mapping_from_zero() {
        let mapping = |host_id, container_id| v1::IdMapping { host_id, container_id, length: 65536 };
        let with = |mode: NamespaceMode, uids: &[v1::IdMapping]| {
            let (uids, gids) = (uids.to_vec(), uids.to_vec());
            let own = v1::UserNamespace { mode: mode.into(), uids, gids };
            pod("id", &config(v1::NamespaceOption { userns_options: Some(own), ..Default::default() }))
        };
        assert!(with(NamespaceMode::Pod, &[mapping(100_000, 0)]).is_ok());
        assert!(with(NamespaceMode::Pod, &[mapping(100_000, 0), mapping(200_000, 65536)]).is_err());
        assert!(with(NamespaceMode::Pod, &[mapping(100_000, 1)]).is_err());
        assert!(with(NamespaceMode::Container, &[]).is_err());
    }
}
