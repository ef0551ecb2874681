//! Any Pod that passes validation becomes a plan or an error, and the plan is read back as it was.
#![no_main]

use k8s_openapi::api::core::v1::Pod;
use libfuzzer_sys::fuzz_target;
use manifests::parse::{SourceFile, parse};
use runtime::image::{Image, ImageConfig};
use runtime::plan::{NodeFacts, NodeRules, PodInput, PodPlan, Rootfs, build};
use serde_json::Value;
use std::collections::BTreeMap;

fuzz_target!(|content: &[u8]| {
    let file = SourceFile { path: "fuzz.yaml".to_owned(), content: content.to_vec() };
    let parsed = parse(vec![file]);
    let node = NodeFacts {
        node_name: "node".into(),
        host_ips: vec!["192.0.2.1".into()],
        state_dir: "/state".into(),
        log_dir: "/logs".into(),
        log_limits: Default::default(),
        cgroup_root: "keel".into(),
        hidden: Vec::new(),
        cpu_millis: 4000,
        memory_bytes: 8 << 30,
        storage_bytes: 64 << 30,
        default_pids: Some(100),
        rules: NodeRules::default(),
        dns: None,
    };
    for object in &parsed.objects {
        let Ok(pod) = <&Pod>::try_from(&object.object) else { continue };
        let mut pod = pod.clone();
        pod.metadata.uid = Some("5d1b0a6e-0000-4000-8000-000000000000".into());
        let image = Image {
            id: "host:".into(),
            digest: "host:".into(),
            rootfs: Rootfs::Host { hidden: Vec::new() },
            config: ImageConfig::default(),
        };
        let spec = pod.spec.clone().unwrap_or_default();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let images: BTreeMap<_, _> = containers.map(|one| (one.name.clone(), image.clone())).collect();
        let (config_maps, secrets) = (BTreeMap::new(), BTreeMap::new());
        let input = PodInput {
            pod: &pod,
            config_maps: &config_maps,
            secrets: &secrets,
            images: &images,
            node: &node,
            identity: None,
        };
        let Ok(plan) = build(&input) else { continue };
        let text = serde_json::to_vec(&plan).unwrap();
        let read: PodPlan = serde_json::from_slice(&text).unwrap();
        assert_eq!(ordered(&read), ordered(&plan));
    }
});

/// The plan with its capabilities, which are sets, in order.
fn ordered(plan: &PodPlan) -> Value {
    let mut value = serde_json::to_value(plan).unwrap();
    for containers in ["init_containers", "containers"] {
        for container in value[containers].as_array_mut().into_iter().flatten() {
            let sets = container.pointer_mut("/spec/process/capabilities").and_then(Value::as_object_mut);
            for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
                set.sort_by_key(Value::to_string);
            }
        }
    }
    value
}
