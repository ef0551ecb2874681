//! The names of a pod, and every source of its variables, as a program in it finds them.

use crate::node::{ADDRESS, Node, Objects, pod, until};
use runtime::state::Stage;
use serde_json::{Value, json};
use std::fs;

/// What the lines of a log say.
fn said(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.split_once(" F ")).map(|(_, text)| text).collect()
}

pub(crate) async fn a_pod_has_the_names_that_it_asks_for(node: Node) {
    let text = "uname -n; echo $HOSTNAME; cat /etc/hostname /etc/hosts /etc/resolv.conf";
    let options = json!([{"name": "ndots", "value": "2"}, {"name": "edns0"}]);
    let spec = json!({
        "hostname": "db-0", "subdomain": "db",
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["one.example", "two.example"]},
                        {"ip": "192.0.2.8", "hostnames": ["three.example"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53", "192.0.2.54"], "searches": ["a.example", "b.example"],
            "options": options},
    });
    let log = node.output_of(&node.built("names", text, &json!({}), &spec)).await;
    let lines = said(&log);
    assert_eq!(lines[..3], ["db-0"; 3], "{log}");
    for line in [
        &format!("{ADDRESS}\tdb-0.db.default.svc.cluster.local\tdb-0"),
        "192.0.2.7\tone.example\ttwo.example",
        "192.0.2.8\tthree.example",
    ] {
        assert!(lines.contains(&line), "{line:?} in {log}");
    }
    let resolver: Vec<_> = lines.iter().skip_while(|line| !line.starts_with("nameserver")).copied().collect();
    assert_eq!(
        resolver,
        [
            "nameserver 192.0.2.53",
            "nameserver 192.0.2.54",
            "search a.example b.example",
            "options ndots:2 edns0"
        ]
    );
    let spec = json!({"hostname": "db-0", "hostnameOverride": "quite.another.name"});
    let log = node.output_of(&node.built("over", "uname -n", &json!({}), &spec)).await;
    assert_eq!(said(&log), ["quite.another.name"]);
}

/// The resolvers of the host's that a pod can reach.
fn resolvers_of_the_host() -> Vec<String> {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap();
    let own = match own.contains("nameserver 127.0.0.53") {
        true => fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own),
        false => own,
    };
    own.lines().filter(|line| line.starts_with("nameserver ")).map(str::to_owned).collect()
}

pub(crate) async fn other_policies_take_the_hosts_resolvers(node: Node) {
    let config = json!({"nameservers": ["192.0.2.53"], "searches": ["more.example"]});
    for policy in ["Default", "ClusterFirst", "ClusterFirstWithHostNet"] {
        let uid = policy.to_lowercase();
        let spec = json!({"dnsPolicy": policy, "dnsConfig": config});
        let log = node.output_of(&node.built(&uid, "cat /etc/resolv.conf", &json!({}), &spec)).await;
        let mut wanted = resolvers_of_the_host();
        wanted.push("nameserver 192.0.2.53".into());
        let servers: Vec<_> = said(&log).into_iter().filter(|line| line.starts_with("nameserver")).collect();
        assert_eq!(servers, wanted, "{policy}");
        assert!(said(&log).iter().any(|line| line.starts_with("search ") && line.ends_with(" more.example")));
    }
}

fn from(name: &str, source: Value) -> Value {
    json!({"name": name, "valueFrom": source})
}

fn field(name: &str, path: &str) -> Value {
    from(name, json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}}))
}

fn amount(name: &str, resource: &str, divisor: &str) -> Value {
    from(name, json!({"resourceFieldRef": {"resource": resource, "divisor": divisor}}))
}

fn objects() -> Objects {
    let maps = json!({
        "settings": {"data": {"MODE": "fast", "LEVEL": "3"}, "binaryData": {"BLOB": "AP8="}},
    });
    let secrets = json!({"keys": {"data": {"TOKEN": "czNjcmV0"}}});
    Objects {
        config_maps: serde_json::from_value(maps).unwrap(),
        secrets: serde_json::from_value(secrets).unwrap(),
        ..Objects::default()
    }
}

/// A variable from every kind of source.
fn sources() -> Value {
    let optional = |kind: &str| json!({kind: {"name": "none", "key": "k", "optional": true}});
    json!([
        field("F01", "metadata.name"),
        field("F02", "metadata.namespace"),
        field("F03", "metadata.uid"),
        field("F04", "metadata.labels['tier']"),
        field("F05", "metadata.annotations['example.org/k']"),
        field("F06", "spec.nodeName"),
        field("F07", "spec.serviceAccountName"),
        field("F08", "status.hostIP"),
        field("F09", "status.hostIPs"),
        field("F10", "status.podIP"),
        field("F11", "status.podIPs"),
        amount("R1", "limits.cpu", "1m"),
        amount("R2", "requests.cpu", "1m"),
        amount("R3", "limits.memory", "1Mi"),
        amount("R4", "requests.memory", "1Mi"),
        amount("R5", "limits.ephemeral-storage", "1Mi"),
        amount("R6", "requests.ephemeral-storage", "1Mi"),
        amount("R7", "limits.hugepages-2Mi", "1Mi"),
        amount("R8", "requests.hugepages-2Mi", "1Mi"),
        from("R9", json!({"resourceFieldRef": {"containerName": "other", "resource": "limits.memory"}})),
        from("V1", json!({"configMapKeyRef": {"name": "settings", "key": "MODE"}})),
        from("V2", json!({"secretKeyRef": {"name": "keys", "key": "TOKEN"}})),
        from("V3", optional("configMapKeyRef")),
        from("V4", optional("secretKeyRef")),
        json!({"name": "V5", "value": "$(V1) and $(CFG_LEVEL), $$(V1), $(V3)"}),
    ])
}

/// What they have to say, but for the pod's address.
const SAID: &[&str] = &[
    "F01=vars",
    "F02=default",
    "F03=vars",
    "F04=front",
    "F05=v",
    "F06=node-1",
    "F07=robot",
    "F08=192.0.2.1",
    "F09=192.0.2.1",
    "R1=1500",
    "R2=250",
    "R3=64",
    "R4=32",
    "R5=20",
    "R6=10",
    "R7=4",
    "R8=4",
    "R9=16777216",
    "V1=fast",
    "V2=s3cret",
    "V5=fast and 3, $(V1), $(V3)",
    "CFG_MODE=fast",
    "CFG_LEVEL=3",
    "TOKEN=s3cret",
    "HOSTNAME=vars",
    "/made/for/it",
    "word fast and 3, $(V1), $(V3)",
    "word $(V1)",
    "word $(UNKNOWN)",
];

pub(crate) async fn every_source_of_a_variable_reaches_the_program(node: Node) {
    let amounts = |cpu: &str, memory: &str, disk: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": disk, "hugepages-2Mi": "4Mi"});
    let container = json!({
        "env": sources(),
        "envFrom": [
            {"configMapRef": {"name": "settings"}, "prefix": "CFG_"},
            {"secretRef": {"name": "keys"}},
            {"configMapRef": {"name": "none", "optional": true}},
            {"secretRef": {"name": "none", "optional": true}},
        ],
        "resources": {"limits": amounts("1500m", "64Mi", "20Mi"), "requests": amounts("250m", "32Mi", "10Mi")},
        "workingDir": "/made/for/it",
        "command": ["/bin/sh", "-c", "env | sort; pwd; for word; do echo \"word $word\"; done", "$(V1)"],
        "args": ["$(V5)", "$$(V1)", "$(UNKNOWN)"],
    });
    let other = json!({"name": "other", "image": "any", "command": ["true"],
        "resources": {"limits": {"memory": "16Mi"}}});
    let spec = json!({"serviceAccountName": "robot", "containers": [other]});
    let mut pod = pod("vars", "", &container, &spec);
    pod["metadata"]["labels"] = json!({"tier": "front"});
    pod["metadata"]["annotations"] = json!({"example.org/k": "v"});
    let log = node.output_of(&node.built_with("vars", Node::host_image(), &pod, &objects())).await;
    let lines = said(&log);
    let own = ["F10", "F11"].map(|name| format!("{name}={ADDRESS}"));
    for line in SAID.iter().copied().chain(own.iter().map(String::as_str)) {
        assert!(lines.contains(&line), "{line:?} in {log}");
    }
    for name in ["V3=", "V4=", "CFG_BLOB=", "MODE="] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{name:?} in {log}");
    }
}

pub(crate) async fn variables_come_from_files_that_the_pod_has_written(node: Node) {
    let file = |volume: &str, path: &str, key: &str, optional: bool| {
        json!({"fileKeyRef":
            {"volumeName": volume, "path": path, "key": key, "optional": optional}})
    };
    let written = "printf \"# made here\\nADDRESS='db one'\\nOTHER='x'\\n\" > /data/sub.env; \
                   printf \"WORD='two\\nlines'\" > /mem/word";
    let mounts = json!([{"name": "disk", "mountPath": "/data"}, {"name": "mem", "mountPath": "/mem"}]);
    let container = json!({
        "env": [
            from("ADDRESS", file("disk", "sub.env", "ADDRESS", false)),
            from("WORD", file("mem", "word", "WORD", false)),
            from("NOTHING", file("disk", "sub.env", "NOTHING", true)),
            from("NOWHERE", file("disk", "none/at/all", "A", true)),
            {"name": "URL", "value": "tcp://$(ADDRESS)"},
        ],
        "args": ["sh", "$(URL)"],
        // It need not have the volume for it.
    });
    let spec = json!({
        "initContainers": [{"name": "first", "image": "any", "command": ["sh", "-c", written],
            "volumeMounts": mounts}],
        "volumes": [{"name": "disk", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}}],
    });
    let script = "echo \"$ADDRESS;$WORD;$URL;$1\"; env | grep -c '^NO'; ls /data; echo end; exec sleep 1000";
    node.launch_plan(&node.built("files", script, &container, &spec)).await;
    let log = until("its word", || Some(node.log("files", 0)).filter(|log| log.contains("F end"))).await;
    assert_eq!(said(&log)[..3], ["db one;two", "lines;tcp://db one;tcp://db one", "0"], "{log}");
    // What comes in later has them too.
    let args = ["sh", "-c", "echo $ADDRESS"].map(Into::into).into();
    let enter = runtime::pods::ExecSpec { container: "main".into(), args, ..Default::default() };
    let (code, said_inside, _) = crate::inside::inside(&node, "files", enter, b"").await;
    assert_eq!((code.unwrap(), said_inside.as_str()), (0, "db one\n"));
    node.runtime().stop("files", 0).await.unwrap();

    let missing = json!({"env": [from("A", file("disk", "sub.env", "MISSING", false))]});
    node.launch_plan(&node.built("missing", "echo ran", &missing, &spec)).await;
    let state = node.wait("missing", |state| state.stage == Stage::Finished).await;
    let end = crate::ended(&state).unwrap();
    assert_eq!(end.reason, "StartError");
    assert!(end.message.contains("key \"MISSING\" not found in file \"sub.env\""), "{}", end.message);
    assert_eq!(node.log("missing", 0), "");
}
