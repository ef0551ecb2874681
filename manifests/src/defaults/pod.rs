//! Defaults of pods and of what is in them.

use super::{set, set_word};
use crate::image::Reference;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HTTPGetAction, LifecycleHandler, Pod, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, Volume,
};

/// Mode of files in a volume: `0644`.
const FILE_MODE: i32 = 0o644;

pub(super) fn pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    self::spec(spec);
    // Only pods themselves: a template keeps what was written.
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = &mut container.resources {
            requests(resources);
        }
    }
}

pub(super) fn template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        self::spec(spec);
    }
}

fn spec(spec: &mut PodSpec) {
    set_word(&mut spec.dns_policy, "ClusterFirst");
    set_word(&mut spec.restart_policy, "Always");
    set_word(&mut spec.scheduler_name, "default-scheduler");
    set(&mut spec.termination_grace_period_seconds, 30);
    set(&mut spec.enable_service_links, true);
    spec.security_context.get_or_insert_default();
    // Its old name means the same.
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    if spec.service_account.is_none() {
        spec.service_account.clone_from(&spec.service_account_name);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        self::container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
}

fn container(container: &mut Container, host_network: bool) {
    set_word(&mut container.termination_message_path, "/dev/termination-log");
    set_word(&mut container.termination_message_policy, "File");
    let image = container.image.as_deref().unwrap_or_default();
    set_word(&mut container.image_pull_policy, pull_policy(image));
    for port in container.ports.iter_mut().flatten() {
        set_word(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for source in container.env.iter_mut().flatten().filter_map(|e| e.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            set_word(&mut field.api_version, "v1");
        }
    }
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        self::probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            self::handler(handler);
        }
    }
}

/// `Always` for a tag that moves by convention, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    match Reference::parse(image) {
        Ok(Reference::Registry(registry)) if registry.tag.as_deref() == Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Probe) {
    let positive = |field: &mut Option<i32>, value| {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    };
    positive(&mut probe.timeout_seconds, 1);
    positive(&mut probe.period_seconds, 10);
    positive(&mut probe.success_threshold, 1);
    positive(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        self::http_get(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        set(&mut grpc.service, String::new());
    }
}

fn handler(handler: &mut LifecycleHandler) {
    if let Some(http) = &mut handler.http_get {
        self::http_get(http);
    }
}

fn http_get(http: &mut HTTPGetAction) {
    set_word(&mut http.path, "/");
    set_word(&mut http.scheme, "HTTP");
}

fn volume(volume: &mut Volume) {
    if let Some(source) = &mut volume.config_map {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.secret {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.projected {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.image {
        let reference = source.reference.as_deref().unwrap_or_default();
        set_word(&mut source.pull_policy, pull_policy(reference));
    }
    if let Some(source) = &mut volume.host_path {
        set(&mut source.type_, String::new());
    }
    let bare = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == bare {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
}

/// What is limited is requested, unless less was.
fn requests(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}
