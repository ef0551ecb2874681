use super::*;
use crate::plan::{ClusterDns, NodeFacts};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    pod: Pod,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    node: NodeFacts,
}

impl World {
    fn new(spec: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut full = json!({"containers": []});
        spec.as_object().unwrap().iter().for_each(|(key, value)| full[key] = value.clone());
        let meta =
            json!({"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"a": "1", "b": "say \"x\""}});
        let maps = json!({"settings": {"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AP8="}}});
        Self {
            pod: serde_json::from_value(json!({"metadata": meta, "spec": full})).unwrap(),
            config_maps: serde_json::from_value(maps).unwrap(),
            secrets: serde_json::from_value(json!({"keys": {"data": {"token": "czNjcmV0"}}})).unwrap(),
            node: NodeFacts {
                node_name: "node-1".into(),
                host_ips: Vec::new(),
                state_dir: folder.path().to_owned(),
                log_dir: "/logs".into(),
                log_limits: Default::default(),
                cgroup_root: "keel".into(),
                hidden: Vec::new(),
                cpu_millis: 1000,
                memory_bytes: 1 << 30,
                storage_bytes: 10 << 30,
                default_pids: None,
                rules: crate::plan::NodeRules::default(),
                dns: None,
            },
            folder,
        }
    }

    fn volume(volume: Value) -> Self {
        let mut named = json!({"name": "v"});
        volume.as_object().unwrap().iter().for_each(|(key, value)| named[key] = value.clone());
        Self::new(json!({"volumes": [named]}))
    }

    fn with<T>(&self, then: impl FnOnce(&PodInput<'_>) -> T) -> T {
        then(&PodInput {
            pod: &self.pod,
            config_maps: &self.config_maps,
            secrets: &self.secrets,
            images: &BTreeMap::new(),
            node: &self.node,
            identity: None,
        })
    }

    fn prepare(&self) -> Result<(), VolumeError> {
        self.with(prepare)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("pods/u-1/volumes").join(path)
    }

    fn set(&mut self, key: &str, value: &str) {
        let map = self.config_maps.get_mut("settings").unwrap();
        map.data.get_or_insert_default().insert(key.into(), value.into());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// The names in a folder that a person sees.
fn names(path: &Path) -> Vec<String> {
    let all = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<_> = all.filter(|name| !name.starts_with("..")).collect();
    all.sort();
    all
}

#[test]
fn an_empty_dir_is_open_to_all_and_keeps_its_content() {
    let world = World::volume(json!({"emptyDir": {}}));
    world.prepare().unwrap();
    let folder = world.at("empty-dir/v");
    assert_eq!(mode(&folder), 0o777);
    assert_eq!(mode(folder.parent().unwrap()), 0o700);
    fs::write(folder.join("kept"), "x").unwrap();
    world.prepare().unwrap();
    assert_eq!(fs::read(folder.join("kept")).unwrap(), b"x");
}

#[test]
fn a_config_map_is_files_behind_one_link() {
    let world = World::volume(json!({"configMap": {"name": "settings", "defaultMode": 0o600}}));
    world.prepare().unwrap();
    let folder = world.at("config-map/v");
    assert_eq!(names(&folder), ["a", "b", "c"]);
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"1");
    assert_eq!(fs::read(folder.join("c")).unwrap(), [0, 255]);
    assert_eq!(mode(&folder.join("a")), 0o600);
    assert_eq!(fs::read_link(folder.join("a")).unwrap(), Path::new("..data/a"));
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let items = json!([{"key": "a", "path": "deep/er/x", "mode": 0o400}, {"key": "b", "path": "y"}]);
    let world = World::volume(json!({"configMap": {"name": "settings", "items": items}}));
    world.prepare().unwrap();
    let folder = world.at("config-map/v");
    assert_eq!(names(&folder), ["deep", "y"]);
    assert_eq!(fs::read(folder.join("deep/er/x")).unwrap(), b"1");
    assert_eq!((mode(&folder.join("deep/er/x")), mode(&folder.join("y"))), (0o400, 0o644));
}

#[test]
fn an_update_swaps_everything_at_once_and_only_when_needed() {
    let mut world = World::volume(json!({"configMap": {"name": "settings"}}));
    world.prepare().unwrap();
    let folder = world.at("config-map/v");
    let generation = || fs::read_link(folder.join("..data")).unwrap();
    let first = generation();
    assert_eq!(world.with(update).unwrap(), Vec::<String>::new());
    assert_eq!(generation(), first);

    world.set("a", "new");
    world.set("d", "added");
    world.config_maps.get_mut("settings").unwrap().data.as_mut().unwrap().remove("b");
    assert_eq!(world.with(update).unwrap(), ["v"]);
    assert_eq!(names(&folder), ["a", "c", "d"]);
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"new");
    assert_ne!(generation(), first);
    assert!(!folder.join(&first).exists(), "the old files are gone");
}

#[test]
fn a_write_that_was_cut_short_is_repaired() {
    let mut world = World::volume(json!({"configMap": {"name": "settings"}}));
    world.prepare().unwrap();
    let folder = world.at("config-map/v");
    fs::create_dir(folder.join("..2020_01_01_00_00_00.000000000")).unwrap();
    symlink("..2020_01_01_00_00_00.000000000", folder.join("..data_tmp")).unwrap();
    fs::remove_file(folder.join("a")).unwrap();
    assert!(world.with(update).unwrap().is_empty());
    assert_eq!(names(&folder), ["a", "b", "c"]);
    world.set("a", "2");
    world.with(update).unwrap();
    let hidden = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".."));
    assert_eq!(hidden.count(), 2, "..data and its folder");
}

#[test]
fn secrets_are_in_folders_that_only_root_enters() {
    let world = World::volume(json!({"secret": {"secretName": "keys"}}));
    world.prepare().unwrap();
    let folder = world.at("secret/v");
    assert_eq!(fs::read(folder.join("token")).unwrap(), b"s3cret");
    assert_eq!(mode(folder.parent().unwrap()), 0o700);
}

#[test]
fn projected_volumes_join_their_sources() {
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let sources = json!([
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "cfg/a"}]}},
        {"secret": {"name": "keys", "items": [{"key": "token", "path": "token"}]}},
        {"downwardAPI": {"items": [field("labels", "metadata.labels"), field("name", "metadata.name")]}},
    ]);
    let world = World::volume(json!({"projected": {"sources": sources, "defaultMode": 0o440}}));
    world.prepare().unwrap();
    let folder = world.at("projected/v");
    assert_eq!(names(&folder), ["cfg", "labels", "name", "token"]);
    assert_eq!(fs::read_to_string(folder.join("labels")).unwrap(), "a=\"1\"\nb=\"say \\\"x\\\"\"");
    assert_eq!(fs::read(folder.join("name")).unwrap(), b"web");
    assert_eq!(mode(&folder.join("cfg/a")), 0o440);
}

#[test]
fn what_is_missing_is_an_error_unless_it_is_optional() {
    let failed = "MountVolume.SetUp failed for volume \"v\" : ";
    let item = json!([{"key": "no", "path": "x"}]);
    let cases = [
        (json!({"configMap": {"name": "no"}}), "configmap \"no\" not found"),
        (json!({"secret": {"secretName": "no"}}), "secret \"no\" not found"),
        (json!({"configMap": {"name": "settings", "items": item}}), "references non-existent config key: no"),
        (json!({"secret": {"secretName": "keys", "items": item}}), "references non-existent secret key: no"),
    ];
    for (volume, message) in cases {
        let error = World::volume(volume.clone()).prepare().unwrap_err();
        assert_eq!((error.to_string(), error.reason()), (format!("{failed}{message}"), "FailedMount"));
        let mut optional = volume;
        for source in optional.as_object_mut().unwrap().values_mut() {
            source["optional"] = true.into();
        }
        World::volume(optional).prepare().unwrap();
    }
}

#[test]
fn paths_out_of_the_volume_or_into_another_file_are_refused() {
    for path in ["../x", "a/../../x", "/x", "", "..data", "..x/y"] {
        let items = json!([{"key": "a", "path": path}]);
        let world = World::volume(json!({"configMap": {"name": "settings", "items": items}}));
        assert!(matches!(world.prepare(), Err(VolumeError::BadPath { .. })), "{path}");
    }
    let items = json!([{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]);
    let world = World::volume(json!({"configMap": {"name": "settings", "items": items}}));
    assert!(matches!(world.prepare(), Err(VolumeError::BadPath { .. })));
}

#[test]
fn host_paths_are_checked_and_made_by_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let ensure =
        |path: &str, kind: &str| World::volume(json!({"hostPath": {"path": path, "type": kind}})).prepare();
    let fits = [
        (at("folder"), "Directory"),
        (at("file"), "File"),
        (at("socket"), "Socket"),
        ("/dev/null".into(), "CharDevice"),
        (at("made/deep"), "DirectoryOrCreate"),
        (at("made-file"), "FileOrCreate"),
        (at("made-by-default"), ""),
        (at("file"), ""),
    ];
    for (path, kind) in fits {
        ensure(&path, kind).unwrap();
        assert!(Path::new(&path).exists());
    }
    assert!(Path::new(&at("made-file")).is_file() && Path::new(&at("made-by-default")).is_dir());
    let wrong = [
        (at("file"), "Directory", "directory"),
        (at("absent"), "Directory", "directory"),
        (at("file"), "DirectoryOrCreate", "directory"),
        (at("folder"), "File", "file"),
        (at("folder"), "FileOrCreate", "file"),
        (at("file"), "Socket", "socket file"),
        (at("file"), "CharDevice", "character device"),
        ("/dev/null".into(), "BlockDevice", "block device"),
    ];
    for (path, kind, word) in wrong {
        let message = ensure(&path, kind).unwrap_err().to_string();
        assert!(
            message.ends_with(&format!("hostPath type check failed: {path} is not a {word}")),
            "{message}"
        );
    }
    assert!(matches!(ensure(&at("file"), "Nope"), Err(VolumeError::UnknownHostPathType { .. })));
}

#[test]
fn sub_paths_are_made_beneath_their_volume() {
    let mount = |path: &str| json!({"name": "v", "mountPath": "/x", "subPath": path});
    let spec = |path: &str| {
        json!({
            "containers": [{"name": "app", "volumeMounts": [mount(path)]}], "volumes": [{"name": "v", "emptyDir": {}}],
        })
    };
    let world = World::new(spec("a/b"));
    world.prepare().unwrap();
    assert!(world.at("empty-dir/v/a/b").is_dir());
    assert_eq!(mode(&world.at("empty-dir/v/a/b")), 0o777);

    let world = World::new(spec("link/made"));
    fs::create_dir_all(world.at("empty-dir/v")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), world.at("empty-dir/v/link")).unwrap();
    // The link is resolved in the volume, where nothing is at its target.
    assert!(world.prepare().is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn fs_group_owns_what_the_pod_shares() {
    let world = World::new(json!({
        "securityContext": {"fsGroup": 4242},
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "keys", "defaultMode": 0o400}}],
    }));
    world.prepare().unwrap();
    let folder = fs::metadata(world.at("empty-dir/v")).unwrap();
    assert_eq!((folder.gid(), folder.mode() & 0o7777), (4242, 0o2777));
    let file = fs::metadata(world.at("secret/s/token")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (4242, 0o440));
}

#[test]
fn the_pods_names_are_written_for_it() {
    let world = World::new(json!({"hostAliases": [{"ip": "10.1.1.1", "hostnames": ["db", "db.example"]}]}));
    world.with(|input| etc::write(input, &["10.0.0.7".into()])).unwrap();
    let folder = world.with(|input| input.pod_dir());
    let hosts = fs::read_to_string(folder.join("hosts")).unwrap();
    assert!(hosts.contains("\n10.0.0.7\tweb\n") && hosts.contains("\n127.0.0.1\tlocalhost\n"));
    assert!(hosts.ends_with("# Entries added by HostAliases.\n10.1.1.1\tdb\tdb.example\n"));
    assert_eq!(fs::read_to_string(folder.join("hostname")).unwrap(), "web\n");
    assert!(folder.join("resolv.conf").exists());
}

#[test]
fn who_is_asked_for_names_is_as_the_policy_says() {
    let asks_cluster = |spec: Value, has_dns: bool| {
        let mut world = World::new(spec);
        let dns = ClusterDns { servers: vec!["10.88.0.1".into()], domain: "cluster.local".into() };
        world.node.dns = Some(dns).filter(|_| has_dns);
        world.with(|input| etc::write(input, &[])).unwrap();
        let text = fs::read_to_string(world.with(|input| input.pod_dir()).join("resolv.conf")).unwrap();
        let is_searched = text.contains("search shop.svc.cluster.local svc.cluster.local cluster.local");
        assert_eq!(text.starts_with("nameserver 10.88.0.1\n"), is_searched, "{text}");
        is_searched
    };
    for (policy, on_pods_network, on_hosts_network) in
        [("ClusterFirst", true, false), ("ClusterFirstWithHostNet", true, true), ("Default", false, false)]
    {
        let of = |host_network: bool| json!({"dnsPolicy": policy, "hostNetwork": host_network});
        assert_eq!(asks_cluster(of(false), true), on_pods_network, "{policy}");
        assert_eq!(asks_cluster(of(true), true), on_hosts_network, "{policy}");
        assert!(!asks_cluster(of(false), false), "{policy}: the node has none");
    }
    assert!(asks_cluster(json!({}), true), "if nothing is said");
    let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]}});
    assert!(!asks_cluster(own, true));
}
