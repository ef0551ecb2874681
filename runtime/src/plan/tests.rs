use super::*;
use crate::image::{Image, ImageConfig};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};
use std::collections::BTreeMap;

struct World {
    pod: Pod,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    images: BTreeMap<String, Image>,
    node: NodeFacts,
}

fn image(config: ImageConfig) -> Image {
    Image {
        id: "sha256:1".into(),
        digest: "sha256:2".into(),
        rootfs: Rootfs::Layers(vec!["/layers/a/fs".into()]),
        config,
    }
}

impl World {
    /// A pod with one container `app`, whose fields are `container`'s and whose
    /// specification has `spec`'s beside.
    fn new(container: Value, spec: Value) -> Self {
        let mut app = json!({"name": "app", "image": "host:", "command": ["/bin/true"]});
        merge(&mut app, container);
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"tier": "front"}},
            "spec": {"containers": [app]}
        });
        merge(&mut pod["spec"], spec);
        let maps =
            json!({"settings": {"data": {"MODE": "fast", "bad=name": "x"}, "binaryData": {"blob": "AP8="}}});
        let secrets = json!({"keys": {"data": {"TOKEN": "czNjcmV0", "raw": "AP8="}}});
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            config_maps: serde_json::from_value(maps).unwrap(),
            secrets: serde_json::from_value(secrets).unwrap(),
            images: ["app", "setup"].map(|name| (name.to_owned(), image(ImageConfig::default()))).into(),
            node: NodeFacts {
                node_name: "node-1".into(),
                host_ips: vec!["192.0.2.1".into(), "2001:db8::1".into()],
                state_dir: "/state".into(),
                log_dir: "/logs".into(),
                log_limits: Default::default(),
                cgroup_root: "keel".into(),
                hidden: vec!["/state".into()],
                cpu_millis: 2000,
                memory_bytes: 4 << 30,
                storage_bytes: 10 << 30,
                default_pids: Some(1000),
                rules: NodeRules::default(),
                dns: None,
            },
        }
    }

    fn with_image(mut self, config: ImageConfig) -> Self {
        self.images.insert("app".into(), image(config));
        self
    }

    fn build(&self) -> Result<PodPlan, PlanError> {
        build(&PodInput {
            pod: &self.pod,
            config_maps: &self.config_maps,
            secrets: &self.secrets,
            images: &self.images,
            node: &self.node,
            identity: None,
        })
    }

    fn plan(&self) -> PodPlan {
        self.build().unwrap()
    }

    fn error(&self) -> (String, &'static str) {
        let error = self.build().unwrap_err();
        (error.to_string(), error.reason())
    }
}

fn merge(base: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(&key);
        } else {
            base[key] = value;
        }
    }
}

fn app(container: Value) -> Spec {
    World::new(container, json!({})).plan().containers.remove(0).spec
}

fn env(spec: &Spec) -> BTreeMap<String, String> {
    let list = spec.process().as_ref().unwrap().env().clone().unwrap();
    list.iter().map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn args(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().unwrap().args().clone().unwrap()
}

fn mount_options(spec: &Spec, at: &str) -> (String, Vec<String>) {
    let mounts = spec.mounts().as_ref().unwrap();
    let found: Vec<_> = mounts.iter().filter(|mount| mount.destination().to_str() == Some(at)).collect();
    assert_eq!(found.len(), 1, "{at} is mounted once");
    let source = found[0].source().as_ref().unwrap().display().to_string();
    (source, found[0].options().clone().unwrap())
}

#[test]
fn the_pods_own_fields_come_through() {
    let spec = json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 7, "activeDeadlineSeconds": 60,
        "initContainers": [{"name": "setup", "image": "host:", "command": ["/bin/setup"]}],
    });
    let plan = World::new(json!({}), spec).plan();
    assert_eq!(plan.hostname, "web");
    assert_eq!(plan.restart_policy, RestartPolicy::OnFailure);
    assert_eq!((plan.grace_seconds, plan.active_deadline_seconds), (7, Some(60)));
    assert_eq!(plan.cgroup, "keel/besteffort/podu-1");
    assert_eq!(plan.log_dir.to_str(), Some("/logs/shop_web_u-1"));
    assert_eq!(plan.state_dir.to_str(), Some("/state/pods/u-1"));
    assert_eq!(plan.init_containers[0].name, "setup");
    assert_eq!(plan.containers[0].resources.pids, Some(1000));
    let round_trip: PodPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(round_trip.containers[0].spec, plan.containers[0].spec);
}

#[test]
fn command_and_args_override_the_image_as_kubernetes_says() {
    let image = || ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["cmd".into()],
        ..ImageConfig::default()
    };
    let cases = [
        (json!({"command": null}), vec!["/entry", "cmd"]),
        (json!({"command": ["/own"]}), vec!["/own"]),
        (json!({"command": null, "args": ["arg"]}), vec!["/entry", "arg"]),
        (json!({"command": ["/own"], "args": ["arg"]}), vec!["/own", "arg"]),
        (json!({"command": [], "args": []}), vec!["/entry", "cmd"]),
    ];
    for (container, wanted) in cases {
        let plan = World::new(container, json!({})).with_image(image()).plan();
        assert_eq!(args(&plan.containers[0].spec), wanted);
    }
    let nothing = World::new(json!({"command": null}), json!({}));
    assert_eq!(nothing.error(), ("no command specified".into(), "CreateContainerError"));
}

#[test]
fn the_environment_is_layered_and_expanded() {
    let container = json!({
        "args": ["$(GREETING)", "$(FROM_IMAGE)", "$$(GREETING)"],
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "CFG_"},
                    {"configMapRef": {"name": "absent", "optional": true}}],
        "env": [
            {"name": "WHO", "value": "world"},
            {"name": "GREETING", "value": "hello $(WHO) in $(CFG_MODE), $(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "PATH", "value": "/mine"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
            {"name": "NOT_SET", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
            {"name": "NONE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['no']"}}},
            {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
    });
    let config =
        ImageConfig { env: vec!["FROM_IMAGE=1".into(), "WHO=image".into()], ..ImageConfig::default() };
    let plan = World::new(container, json!({})).with_image(config).plan();
    let spec = &plan.containers[0].spec;
    let env = env(spec);
    let wanted = [
        ("GREETING", "hello world in fast, $(LATER)"),
        ("CFG_MODE", "fast"),
        ("FROM_IMAGE", "1"),
        ("WHO", "world"),
        ("PATH", "/mine"),
        ("TOKEN", "s3cret"),
        ("NODE", "node-1"),
        ("TIER", "front"),
        ("NONE", ""),
        ("UID", "u-1"),
        ("HOSTNAME", "web"),
    ];
    for (name, value) in wanted {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("NOT_SET") && !env.keys().any(|name| name.contains("bad")));
    // References see the pod's variables only.
    assert_eq!(args(spec)[1..], ["hello world in fast, $(LATER)", "$(FROM_IMAGE)", "$(GREETING)"]);
}

#[test]
fn what_is_missing_is_named_in_the_kubelets_words() {
    let from = |source: Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    let cases = [
        (from(json!({"configMapKeyRef": {"name": "no", "key": "k"}})), "configmap \"no\" not found"),
        (from(json!({"secretKeyRef": {"name": "no", "key": "k"}})), "secret \"no\" not found"),
        (
            from(json!({"configMapKeyRef": {"name": "settings", "key": "k"}})),
            "couldn't find key k in ConfigMap shop/settings",
        ),
        (
            from(json!({"secretKeyRef": {"name": "keys", "key": "k"}})),
            "couldn't find key k in Secret shop/keys",
        ),
        (json!({"envFrom": [{"configMapRef": {"name": "no"}}]}), "configmap \"no\" not found"),
        (json!({"envFrom": [{"secretRef": {"name": "no"}}]}), "secret \"no\" not found"),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.replicas"}})),
            "fieldPath \"spec.replicas\" is not supported",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            "container has runAsNonRoot and image will run as root",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            "container has runAsNonRoot and container's runAsUser breaks non-root policy",
        ),
        (json!({"securityContext": {"capabilities": {"add": ["NO"]}}}), "unknown capability \"NO\""),
        (json!({"volumeMounts": [{"name": "no", "mountPath": "/x"}]}), "volume \"no\" not found in the pod"),
    ];
    for (container, message) in cases {
        let world = World::new(container, json!({}));
        assert_eq!(world.error(), (message.to_owned(), "CreateContainerConfigError"));
        assert_eq!(world.build().unwrap_err().container.as_deref(), Some("app"));
    }
}

#[test]
fn the_pods_address_is_filled_in_at_its_start() {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let container = json!({
        "args": ["--listen=$(IP):80"],
        "env": [field("IP", "status.podIP"), field("IPS", "status.podIPs"), field("HOST", "status.hostIP")],
    });
    let mut spec = app(container.clone());
    address::fill_in(&mut spec, &["10.0.0.7".into(), "fd00::7".into()]);
    let env_of = |spec: &Spec| ["IP", "IPS", "HOST"].map(|name| env(spec)[name].clone());
    assert_eq!(env_of(&spec), ["10.0.0.7", "10.0.0.7,fd00::7", "192.0.2.1"]);
    assert_eq!(args(&spec)[1], "--listen=10.0.0.7:80");

    let shared = World::new(container, json!({"hostNetwork": true})).plan();
    assert_eq!(env_of(&shared.containers[0].spec), ["192.0.2.1", "192.0.2.1,2001:db8::1", "192.0.2.1"]);
    assert_eq!(shared.hostname, "node-1");
}

#[test]
fn resources_are_what_the_kernel_takes() {
    let container = json!({"resources": {
        "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "0.25"}}});
    let plan = World::new(container, json!({})).plan();
    let wanted = Resources {
        memory_bytes: Some(64 << 20),
        cpu_millis: Some(1500),
        cpu_shares: Some(256),
        pids: Some(1000),
        devices: Devices::Usual(Vec::new()),
        ..Resources::default()
    };
    assert_eq!(plan.containers[0].resources, wanted);
    assert_eq!(plan.cgroup, "keel/burstable/podu-1");
    let whole = json!({"resources": {"limits": {"cpu": "1", "memory": "64Mi"}}});
    assert_eq!(World::new(whole, json!({})).plan().cgroup, "keel/podu-1");
    assert_eq!(plan.resources, Resources { pids: None, devices: Devices::All, ..wanted });

    let second = json!([
        {"name": "app", "image": "host:", "command": ["a"], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        {"name": "setup", "image": "host:", "command": ["a"]},
    ]);
    let plan = World::new(json!({}), json!({"containers": second})).plan();
    assert_eq!(plan.resources.memory_bytes, None, "one container has no limit");
    assert_eq!(plan.resources.cpu_shares, Some(1024));
    assert_eq!(plan.containers[1].resources.cpu_shares, Some(2));
}

#[test]
fn resource_fields_are_rounded_up_to_their_divisor() {
    let field = |name: &str, resource: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}});
    let container = json!({
        "resources": {"limits": {"memory": "100Mi"}, "requests": {"cpu": "250m"}},
        "env": [field("A", "limits.memory", "1Mi"), field("B", "limits.memory", "0"), field("C", "requests.cpu", "1"),
                field("D", "requests.cpu", "1m"), field("E", "limits.cpu", "1"), field("F", "requests.memory", "1Gi")],
    });
    let env = env(&app(container));
    let values: Vec<_> = ["A", "B", "C", "D", "E", "F"].iter().map(|name| env[*name].as_str()).collect();
    assert_eq!(values, ["100", "104857600", "1", "250", "2", "0"]);
}

#[test]
fn volumes_are_bound_from_the_pods_folder() {
    let mount = |name: &str, at: &str| json!({"name": name, "mountPath": at});
    let mut sub = mount("data", "/sub");
    merge(&mut sub, json!({"subPathExpr": "$(WHO)/x"}));
    let mut shared = mount("host", "/host");
    merge(&mut shared, json!({"readOnly": true, "mountPropagation": "HostToContainer"}));
    let container = json!({
        "env": [{"name": "WHO", "value": "me"}],
        "volumeMounts": [mount("data", "/data"), sub, mount("cfg", "/etc/hosts"), shared, mount("ram", "/ram")],
    });
    let volumes = json!({"volumes": [
        {"name": "data", "emptyDir": {}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "cfg", "configMap": {"name": "settings"}},
        {"name": "host", "hostPath": {"path": "/srv"}},
    ]});
    let plan = World::new(container, volumes).plan();
    let spec = &plan.containers[0].spec;
    let at = |path| mount_options(spec, path);
    let pod = "/state/pods/u-1";
    assert_eq!(at("/data"), (format!("{pod}/volumes/empty-dir/data"), options(&["rbind", "rprivate", "rw"])));
    let beneath = format!("{BENEATH_OPTION}{pod}/volumes/empty-dir/data");
    let wanted = options(&["rbind", "rprivate", "rw", &beneath]);
    assert_eq!(at("/sub"), (format!("{pod}/volumes/empty-dir/data/me/x"), wanted));
    assert_eq!(at("/etc/hosts").0, format!("{pod}/volumes/config-map/cfg"));
    assert!(at("/etc/hosts").1.contains(&"ro".to_owned()), "configMap volumes are read-only");
    assert_eq!(at("/host"), ("/srv".into(), options(&["rbind", "rslave", "ro"])));
    assert_eq!(at("/etc/resolv.conf").0, format!("{pod}/resolv.conf"));
    let sizes: Vec<_> = plan.memory_volumes.iter().map(|volume| volume.size_bytes).collect();
    assert_eq!(sizes, [Some(64 << 20), Some(1 << 20)]);
    assert_eq!(at("/ram").0, plan.memory_volumes[1].path.display().to_string());
    let depths: Vec<_> =
        spec.mounts().iter().flatten().map(|m| m.destination().components().count()).collect();
    assert!(depths.is_sorted(), "parents come before what is under them");
}

fn options(list: &[&str]) -> Vec<String> {
    list.iter().map(|&option| option.to_owned()).collect()
}

#[test]
fn sub_paths_stay_in_their_volume() {
    for (field, path) in [("subPath", "/abs"), ("subPath", "a/../../b"), ("subPathExpr", "$(UP)/x")] {
        let mut mount = json!({"name": "data", "mountPath": "/data"});
        mount[field] = path.into();
        let container = json!({"env": [{"name": "UP", "value": ".."}], "volumeMounts": [mount]});
        let world = World::new(container, json!({"volumes": [{"name": "data", "emptyDir": {}}]}));
        assert!(world.error().0.contains("must stay inside"), "{path}");
    }
    let container = json!({"volumeMounts": [{"name": "data", "mountPath": "/data", "subPathExpr": "$(NO)"}]});
    let world = World::new(container, json!({"volumes": [{"name": "data", "emptyDir": {}}]}));
    assert!(world.error().0.starts_with("missing value for \"NO\""));
}

#[test]
fn the_hosts_root_hides_the_agents_folders() {
    let mut world = World::new(json!({}), json!({}));
    if let Some(image) = world.images.get_mut("app") {
        image.rootfs = Rootfs::Host { hidden: Vec::new() };
    }
    assert_eq!(world.plan().containers[0].rootfs, Rootfs::Host { hidden: vec!["/state".into()] });
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let devices = json!({"volumeDevices": [{"name": "disk", "devicePath": "/dev/x"}]});
    let (message, reason) = World::new(devices, json!({})).error();
    assert_eq!(
        (message.as_str(), reason),
        ("volumeDevices is not supported yet", "CreateContainerConfigError")
    );
}

mod security;
