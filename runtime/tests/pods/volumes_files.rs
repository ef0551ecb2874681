//! Volumes that are made of objects and of paths of the host, each field as a container sees it.

use crate::node::{Node, Objects, pod, until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixListener;

fn objects() -> Objects {
    let maps = json!({"settings": {"data": {"one": "1", "two": "2"}, "binaryData": {"blob": "AP8="},
        "immutable": true}});
    let secrets = json!({"keys": {"data": {"user": "Ym9i", "word": "c2VjcmV0"}}});
    Objects {
        config_maps: serde_json::from_value(maps).unwrap(),
        secrets: serde_json::from_value(secrets).unwrap(),
        ..Objects::default()
    }
}

/// Every file below the mounts of `volumes`, with its mode, owner and content.
const LIST: &str = "cd /v; find -L . -type f ! -path '*/..*' | sort | while read f; do \
                    stat -L -c \"$f %a %u $(od -An -tx1 < $f | tr -d ' \\n')\" $f; done; \
                    for d in *; do [ -d $d ] && touch $d/x 2>/dev/null && echo wrote $d; done; echo end";

fn listed(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.split_once(" F ./")).map(|(_, text)| text).collect()
}

fn mounted(volumes: Value) -> (Value, Value) {
    let mount = |volume: &Value| {
        let name = volume["name"].as_str().unwrap();
        json!({"name": name, "mountPath": format!("/v/{name}")})
    };
    let mounts: Vec<_> = volumes.as_array().unwrap().iter().map(mount).collect();
    (json!({"volumeMounts": mounts}), json!({"volumes": volumes}))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn keys_are_files_with_the_names_and_modes_that_items_say(node: Node) {
    let item = |key: &str, path: &str| json!({"key": key, "path": path});
    let (container, spec) = mounted(json!([
        {"name": "all", "configMap": {"name": "settings"}},
        {"name": "some", "configMap": {"name": "settings", "defaultMode": 0o640, "items": [
            item("one", "deep/first"), {"key": "two", "path": "second", "mode": 0o400}]}},
        {"name": "absent", "configMap": {"name": "none", "optional": true}},
        {"name": "partly", "configMap": {"name": "settings", "optional": true,
            "items": [item("one", "one"), item("none", "none")]}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "key", "secret": {"secretName": "keys", "defaultMode": 0o600, "items": [
            item("user", "who"), {"key": "word", "path": "what", "mode": 0o440}]}},
        {"name": "owned", "secret": {"secretName": "keys", "defaultUser": 4321, "items": [
            item("user", "a"), {"key": "word", "path": "b", "user": 1234}]}},
        {"name": "nokeys", "secret": {"secretName": "none", "optional": true}},
    ]));
    let pod = pod("keys", LIST, &container, &spec);
    let log = node.output_of(&node.built_with("keys", Node::host_image(), &pod, &objects())).await;
    let (bob, secret) = (hex("bob"), hex("secret"));
    assert_eq!(
        listed(&log),
        [
            "all/blob 644 0 00ff".to_owned(),
            "all/one 644 0 31".into(),
            "all/two 644 0 32".into(),
            format!("key/what 440 0 {secret}"),
            format!("key/who 600 0 {bob}"),
            format!("keys/user 644 0 {bob}"),
            format!("keys/word 644 0 {secret}"),
            format!("owned/a 644 4321 {bob}"),
            format!("owned/b 644 1234 {secret}"),
            "partly/one 644 0 31".into(),
            "some/deep/first 640 0 31".into(),
            "some/second 400 0 32".into(),
        ]
    );
    assert!(!log.contains("F wrote") && log.contains("F end"), "{log}");
}

fn field(path: &str, field: &str) -> Value {
    json!({"path": path, "fieldRef": {"fieldPath": field}})
}

/// A file of everything that a pod can know of itself.
fn all_of_itself() -> Vec<Value> {
    let amount = |path: &str, resource: &str, divisor: &str| {
        json!({"path": path, "resourceFieldRef":
            {"containerName": "main", "resource": resource, "divisor": divisor}})
    };
    let mut items = vec![
        field("name", "metadata.name"),
        field("namespace", "metadata.namespace"),
        field("uid", "metadata.uid"),
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        field("tier", "metadata.labels['tier']"),
        field("note", "metadata.annotations['note']"),
        amount("cpu", "limits.cpu", "1m"),
        amount("cpu-asked", "requests.cpu", "1m"),
        amount("memory", "limits.memory", "1Mi"),
        amount("memory-asked", "requests.memory", "1Mi"),
        amount("disk", "limits.ephemeral-storage", "1Mi"),
        amount("disk-asked", "requests.ephemeral-storage", "1Mi"),
    ];
    items[0]["mode"] = json!(0o400);
    items
}

pub(crate) async fn sources_are_projected_into_one_folder(node: Node) {
    let items = all_of_itself();
    let (mut container, spec) = mounted(json!([
        {"name": "me", "downwardAPI": {"defaultMode": 0o604, "defaultUser": 78, "items": items}},
        {"name": "both", "projected": {"defaultMode": 0o444, "defaultUser": 77, "sources": [
            {"configMap": {"name": "settings", "items": [{"key": "one", "path": "maps/one"}]}},
            {"configMap": {"name": "none", "optional": true}},
            {"secret": {"name": "keys", "items": [{"key": "word", "path": "word", "mode": 0o400}]}},
            {"secret": {"name": "none", "optional": true}},
            {"downwardAPI": {"items": [field("self", "metadata.name")]}},
        ]}},
    ]));
    let amounts = |cpu: &str, memory: &str, disk: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": disk});
    container["resources"] =
        json!({"limits": amounts("500m", "64Mi", "20Mi"), "requests": amounts("250m", "32Mi", "10Mi")});
    let mut pod = pod("me", LIST, &container, &spec);
    pod["metadata"]["labels"] = json!({"tier": "front", "app": "x"});
    pod["metadata"]["annotations"] = json!({"note": "two\nlines"});
    let log = node.output_of(&node.built_with("me", Node::host_image(), &pod, &objects())).await;
    let me = |name: &str, text: &str| {
        format!("me/{name} {} 78 {}", if name == "name" { 400 } else { 604 }, hex(text))
    };
    let wanted = [
        format!("both/maps/one 444 77 {}", hex("1")),
        format!("both/self 444 77 {}", hex("me")),
        format!("both/word 400 77 {}", hex("secret")),
        me("annotations", "note=\"two\\nlines\""),
        me("cpu", "500"),
        me("cpu-asked", "250"),
        me("disk", "20"),
        me("disk-asked", "10"),
        me("labels", "app=\"x\"\ntier=\"front\""),
        me("memory", "64"),
        me("memory-asked", "32"),
        me("name", "me"),
        me("namespace", "default"),
        me("note", "two\nlines"),
        me("tier", "front"),
        me("uid", "me"),
    ];
    assert_eq!(listed(&log), wanted);
    assert!(!log.contains("F wrote"), "{log}");
}

pub(crate) async fn a_path_of_the_host_is_what_its_type_says(node: Node) {
    let host = node.folder("host");
    fs::create_dir(host.join("folder")).unwrap();
    fs::write(host.join("file"), "").unwrap();
    let _socket = UnixListener::bind(host.join("socket")).unwrap();
    for (name, kind) in [("char", "c"), ("block", "b")] {
        let made = std::process::Command::new("mknod").arg(host.join(name)).args([kind, "254", "0"]).status();
        assert!(made.unwrap().success());
    }
    let types = [
        ("folder", "Directory", "directory"),
        ("file", "File", "regular empty file"),
        ("socket", "Socket", "socket"),
        ("char", "CharDevice", "character special file"),
        ("block", "BlockDevice", "block special file"),
        ("new/folder", "DirectoryOrCreate", "directory"),
        ("new-file", "FileOrCreate", "regular empty file"),
        ("untyped", "", "directory"),
    ];
    let volume = |number: usize, name: &str, kind: &str| json!({"name": format!("v{number}"), "hostPath": {"path": host.join(name), "type": kind}});
    let volumes: Vec<_> =
        types.iter().enumerate().map(|(number, (name, kind, _))| volume(number, name, kind)).collect();
    let (container, spec) = mounted(json!(volumes));
    let text = "cd /v; for f in *; do stat -c '%n %F' $f; done";
    let log = node.output_of(&node.built("types", text, &container, &spec)).await;
    for (number, (.., seen)) in types.iter().enumerate() {
        assert!(log.contains(&format!("F v{number} {seen}\n")), "{number} is {seen} in {log}");
    }
    assert!(host.join("new/folder").is_dir() && host.join("new-file").is_file());
    for (name, kind, word) in [
        ("file", "Directory", "directory"),
        ("folder", "File", "file"),
        ("file", "Socket", "socket"),
        ("block", "CharDevice", "character device"),
        ("char", "BlockDevice", "block device"),
        ("none", "Directory", "directory"),
        ("none", "File", "file"),
        ("file", "DirectoryOrCreate", "directory"),
        ("folder", "FileOrCreate", "file"),
    ] {
        let (container, spec) = mounted(json!([volume(0, name, kind)]));
        let message = node.not_prepared(&pod("no", "", &container, &spec), &Objects::default());
        assert!(message.contains(&format!("is not a {word}")), "{name} as {kind}: {message}");
    }
    assert!(!host.join("none").exists());
}

pub(crate) async fn a_sub_path_can_be_named_by_variables(node: Node) {
    let host = node.folder("written");
    let name = json!({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    let mounts = json!([
        {"name": "logs", "mountPath": "/logs", "subPathExpr": "$(POD)/today"},
        {"name": "logs", "mountPath": "/whole"},
        {"name": "scratch", "mountPath": "/scratch", "subPath": "a/b"},
    ]);
    let container = json!({"env": [name], "volumeMounts": mounts});
    let spec = json!({"restartPolicy": "OnFailure", "volumes": [
        {"name": "logs", "hostPath": {"path": host}}, {"name": "scratch", "emptyDir": {}}]});
    // What is written in one run is there in the next: the volume is the pod's, not the run's.
    let text = "echo kept > /logs/line; find /whole -type f; [ -e /scratch/again ] && cat /scratch/again && exit 0; \
                echo second > /scratch/again; exit 1";
    node.launch_plan(&node.built("expr", text, &container, &spec)).await;
    let log =
        until("a second run", || Some(node.log("expr", 1)).filter(|log| log.contains("F second"))).await;
    assert!(log.contains("F /whole/expr/today/line\n"), "{log}");
    assert_eq!(fs::read_to_string(host.join("expr/today/line")).unwrap(), "kept\n");
}
