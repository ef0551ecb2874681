//! Limits of the disk, pressure, shutdown: what a node does beside running pods.

use crate::machine::{EVENTS, Machine, PATIENCE, PODS, named};
use crate::yaml::{SERVE, once, pod, spec};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use zbus::object_server::SignalEmitter;

const NODE: &str = "/api/v1/nodes/one";
const NODES: &str = "/api/v1/nodes";

fn status_of<'a>(pods: &'a [Value], name: &'a str) -> Option<&'a Value> {
    named(pods, name).next().map(|pod| &pod["status"])
}

/// The pod's status once it was evicted.
fn until_evicted(machine: &Machine, name: &str) -> Value {
    machine.api.until(PODS, &format!("{name} to be evicted"), |pods| {
        status_of(pods, name).filter(|status| status["reason"] == "Evicted").cloned()
    })
}

pub(crate) fn a_pod_over_its_disk_limit_is_evicted(machine: &mut Machine) {
    machine.start();
    let fill = |path: &str| format!("head -c 3000000 /dev/zero > {path}/big; {SERVE}");
    let volume = |size: &str| json!([{"name": "data", "emptyDir": {"sizeLimit": size}}]);
    let mount = json!([{"name": "data", "mountPath": "/data"}]);
    let mut over = spec(&fill("/data"));
    over["volumes"] = volume("1Mi");
    over["containers"][0]["volumeMounts"] = mount.clone();
    let mut below = spec(&fill("/data"));
    below["volumes"] = volume("100Mi");
    below["containers"][0]["volumeMounts"] = mount.clone();
    // The volume counts for the pod, whatever its own limit.
    let mut whole = below.clone();
    whole["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "2Mi"}});
    for (name, spec) in [("over", &over), ("below", &below), ("whole", &whole)] {
        machine.repository.write(&format!("{name}.yaml"), &pod(name, spec));
    }
    machine.repository.push("Three pods that write");
    let status = until_evicted(machine, "over");
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["message"], "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ");
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert!(ended.is_object(), "it runs no more: {status}");
    let conditions = status["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    let status = until_evicted(machine, "whole");
    assert_eq!(
        status["message"],
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
    );
    machine.api.until(EVENTS, "an event of it", |events| {
        events.iter().find(|event| event["reason"] == "Evicted" && event["type"] == "Warning").map(drop)
    });
    assert_eq!(status_of(&machine.api.list(PODS), "below").unwrap()["phase"], "Running");
}

fn condition<'a>(node: &'a Value, kind: &str) -> &'a str {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|one| one["type"] == kind).unwrap()["status"].as_str().unwrap()
}

pub(crate) fn pressure_ends_the_least_important_pod_first_and_keeps_others_out(machine: &mut Machine) {
    machine.start();
    let classed = |class: &str| {
        let mut spec = spec(SERVE);
        spec["priorityClassName"] = class.into();
        spec
    };
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "important"}, "value": 1000});
    machine.repository.write("class.yaml", &class.to_string());
    machine.repository.write("plain.yaml", &pod("plain", &spec(SERVE)));
    machine.repository.write("important.yaml", &pod("important", &classed("important")));
    machine.repository.write("critical.yaml", &pod("critical", &classed("system-node-critical")));
    machine.repository.push("Three pods");
    for (name, priority) in [("plain", 0), ("important", 1000), ("critical", 2_000_001_000)] {
        assert_eq!(machine.until_running(name)["spec"]["priority"], priority);
    }
    assert_eq!(condition(&machine.api.get(NODE), "MemoryPressure"), "False");

    // No machine has so much left.
    machine.configuration["node"]["evictionHard"] = json!({"memory.available": "99.99%"});
    machine.restart_agent();
    let first = until_evicted(machine, "plain");
    let second = until_evicted(machine, "important");
    let message = first["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: memory. Threshold quantity: "), "{message}");
    assert!(message.contains("Container main was using "), "{message}");
    let ended = |status: &Value| {
        status["containerStatuses"][0]["state"]["terminated"]["finishedAt"].as_str().unwrap().to_owned()
    };
    assert!(ended(&first) <= ended(&second), "the important one goes later");
    assert_eq!(status_of(&machine.api.list(PODS), "critical").unwrap()["phase"], "Running");
    let node = machine.api.get(NODE);
    assert_eq!((condition(&node, "MemoryPressure"), condition(&node, "Ready")), ("True", "True"));
    assert_eq!(node["spec"]["taints"][0]["key"], "node.kubernetes.io/memory-pressure");

    let mut tolerant = spec(SERVE);
    tolerant["tolerations"] = json!([{"operator": "Exists"}]);
    tolerant["priorityClassName"] = "system-node-critical".into();
    machine.repository.write("late.yaml", &pod("late", &spec(SERVE)));
    machine.repository.write("tolerant.yaml", &pod("tolerant", &tolerant));
    machine.repository.push("Two more");
    machine.until_running("tolerant");
    let message = machine.api.until(PODS, "why it waits", |pods| {
        let mut conditions = status_of(pods, "late")?["conditions"].as_array()?.iter();
        let scheduled = conditions.find(|one| one["type"] == "PodScheduled" && one["status"] == "False")?;
        Some(scheduled["message"].to_string())
    });
    assert!(message.contains("untolerated taint {node.kubernetes.io/memory-pressure: }"), "{message}");

    machine.configuration["node"]["evictionHard"] = json!({});
    machine.restart_agent();
    machine.until_running("late");
    let calm = |nodes: &[Value]| {
        let node = nodes.first()?;
        (condition(node, "MemoryPressure") == "False" && node["spec"]["taints"].is_null()).then_some(())
    };
    machine.api.until(NODES, "calm", calm);
}

pub(crate) fn a_node_says_what_pods_may_use(machine: &mut Machine) {
    machine.configuration["node"] = json!({
        "kubeReserved": {"cpu": "100m", "memory": "64Mi"},
        "systemReserved": {"cpu": "150m", "ephemeral-storage": "1Gi"},
        "evictionHard": {"memory.available": "36Mi", "nodefs.available": "0%"},
    });
    machine.start();
    let node = machine.api.get(NODE);
    let of = |kind: &str, name: &str| node["status"][kind][name].as_str().unwrap().to_owned();
    let kibibytes =
        |kind: &str, name: &str| -> i64 { of(kind, name).strip_suffix("Ki").unwrap().parse().unwrap() };
    let cores: i64 = of("capacity", "cpu").parse().unwrap();
    assert_eq!(of("allocatable", "cpu"), format!("{}m", cores * 1000 - 250));
    assert_eq!(kibibytes("capacity", "memory") - kibibytes("allocatable", "memory"), 100 * 1024);
    let storage = |kind| kibibytes(kind, "ephemeral-storage");
    assert_eq!(storage("capacity") - storage("allocatable"), 1024 * 1024);
}

/// What a token says.
fn parts(token: &str) -> (Value, Value) {
    let part = |place: usize| {
        let text = URL_SAFE_NO_PAD.decode(token.split('.').nth(place).unwrap()).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    (part(0), part(1))
}

pub(crate) fn labels_and_tokens_reach_a_pod(machine: &mut Machine) {
    machine.start();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let script = "trap 'exit 0' TERM; at=/var/run/secrets/kubernetes.io/serviceaccount; ls $at; \
        echo \"token $(cat $at/token)\"; echo \"in $(cat $at/namespace)\"; \
        while :; do echo \"label $(cat /me/label)\"; sleep 0.1 & wait $!; done";
    let mut reader = spec(script);
    reader["serviceAccountName"] = "robot".into();
    let item = json!({"path": "label", "fieldRef": {"fieldPath": "metadata.labels['tier']"}});
    reader["volumes"] = json!([{"name": "me", "downwardAPI": {"items": [item]}}]);
    reader["containers"][0]["volumeMounts"] = json!([{"name": "me", "mountPath": "/me"}]);
    let labelled = |tier: &str| {
        let meta = json!({"name": "reader", "labels": {"tier": tier}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": reader}).to_string()
    };
    machine.repository.write("account.yaml", &account.to_string());
    machine.repository.push_file("reader.yaml", &labelled("one"));
    machine.until_running("reader");
    let pid = machine.pid("reader");
    let follow = machine.follow(&["logs", "-f", "reader"]);
    let token = follow.until("the token", |line| line.starts_with("token "));
    follow.until("the namespace", |line| line == "in default");
    follow.until("the first label", |line| line == "label one");
    machine.repository.push_file("reader.yaml", &labelled("two"));
    follow.until("the second label", |line| line == "label two");
    assert_eq!(machine.pid("reader"), pid, "the same container");

    let (header, claims) = parts(token.strip_prefix("token ").unwrap());
    let keys = machine.api.get("/openid/v1/jwks");
    assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &keys["keys"][0]["kid"]));
    let issuer = machine.api.get("/.well-known/openid-configuration")["issuer"].clone();
    assert_eq!((&claims["sub"], &claims["iss"]), (&json!("system:serviceaccount:default:robot"), &issuer));
    let bound = &claims["kubernetes.io"];
    let uid = machine.api.get(&format!("{PODS}/reader"))["metadata"]["uid"].clone();
    assert_eq!((&bound["pod"]["uid"], &bound["pod"]["name"]), (&uid, &json!("reader")));
    let account = machine.api.get("/api/v1/namespaces/default/serviceaccounts/robot");
    assert_eq!(bound["serviceaccount"]["uid"], account["metadata"]["uid"]);
}

/// A bus of a test's own.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start(folder: &Path) -> Self {
        let address = format!("unix:path={}", folder.join("bus").display());
        let configuration = folder.join("bus.conf");
        let text = format!(
            "<busconfig><listen>{address}</listen><policy context=\"default\"><allow user=\"*\"/>\
             <allow own=\"*\"/><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/></policy></busconfig>"
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = Command::new("dbus-daemon");
        command
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--print-address"]);
        let mut daemon = command.stdout(Stdio::piped()).spawn().expect("dbus-daemon is installed");
        let mut line = String::new();
        let stdout = daemon.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert!(line.starts_with("unix:path="), "{line}");
        Self { daemon, address }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _gone = self.daemon.kill();
        let _status = self.daemon.wait();
    }
}

/// systemd-logind, as far as the agent knows it. Each lock that is taken is told; our end of its
/// pipe says when it is given up.
struct Logind(mpsc::Sender<OwnedFd>);

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    fn inhibit(
        &self,
        what: &str,
        who: &str,
        _why: &str,
        mode: &str,
    ) -> zbus::fdo::Result<zbus::zvariant::OwnedFd> {
        assert_eq!((what, who, mode), ("shutdown", "keel", "delay"));
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        self.0.send(ours).unwrap();
        Ok(theirs.into())
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> u64 {
        60_000_000
    }

    #[zbus(signal)]
    async fn prepare_for_shutdown(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;
}

const MANAGER: &str = "/org/freedesktop/login1";

async fn serve(address: &str, locks: mpsc::Sender<OwnedFd>) -> zbus::Connection {
    let builder = zbus::connection::Builder::address(address).unwrap();
    let builder = builder.serve_at(MANAGER, Logind(locks)).unwrap();
    builder.name("org.freedesktop.login1").unwrap().build().await.unwrap()
}

/// `stays` and `critical` run always, `once` never again; each tells in the folder `order` how it
/// ends. Their uids.
fn three_pods(machine: &Machine, order: &Path) -> [Value; 3] {
    std::fs::create_dir(order).unwrap();
    let ends = |name: &str| {
        format!(
            "trap 'echo {name} told >> /order/log; sleep 0.3; echo {name} ends >> /order/log; exit 0' TERM; \
             echo up; while :; do sleep 1000 & wait $!; done"
        )
    };
    let with_order = |mut spec: Value| {
        spec["volumes"] = json!([{"name": "order", "hostPath": {"path": order}}]);
        spec["containers"][0]["volumeMounts"] = json!([{"name": "order", "mountPath": "/order"}]);
        spec
    };
    let mut critical = with_order(spec(&ends("critical")));
    critical["priorityClassName"] = "system-cluster-critical".into();
    machine.repository.write("stays.yaml", &pod("stays", &with_order(spec(&ends("stays")))));
    machine.repository.write("once.yaml", &pod("once", &with_order(once(&ends("once")))));
    machine.repository.write("critical.yaml", &pod("critical", &critical));
    machine.repository.push("Three pods");
    ["stays", "once", "critical"].map(|name| machine.until_running(name)["metadata"]["uid"].clone())
}

pub(crate) fn a_shutdown_waits_for_pods_and_brings_them_back(machine: &mut Machine) {
    let bus = Bus::start(&machine.folder);
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, locks) = mpsc::channel();
    let logind = executor.block_on(serve(&bus.address, sender));
    let say = |start: bool| {
        executor.block_on(async {
            let emitter = SignalEmitter::new(&logind, MANAGER).unwrap();
            Logind::prepare_for_shutdown(&emitter, start).await.unwrap();
        });
    };
    machine.environment = vec![("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), bus.address.clone())];
    machine.configuration["node"]["shutdownGracePeriod"] = "40s".into();
    machine.configuration["node"]["shutdownGracePeriodCriticalPods"] = "20s".into();
    machine.start();
    let lock = locks.recv_timeout(PATIENCE).expect("a lock is taken");

    let order = machine.folder.join("order");
    let uids = three_pods(machine, &order);

    say(true);
    let mut ends = [rustix::event::PollFd::new(&lock, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ends, Some(&patience)).unwrap(), 1, "the lock is given up");
    let log = std::fs::read_to_string(order.join("log")).unwrap();
    let at =
        |line: &str| log.lines().position(|one| one == line).unwrap_or_else(|| panic!("{line} in {log}"));
    assert!(at("critical told") > at("stays ends") && at("critical told") > at("once ends"), "{log}");
    at("critical ends");
    let pods = machine.api.list(PODS);
    let status = status_of(&pods, "once").unwrap();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")));
    assert_eq!(status["message"], "Pod was terminated in response to imminent node shutdown.");
    let is_over = |name: &str| {
        matches!(status_of(&pods, name).unwrap()["phase"].as_str(), Some("Failed" | "Succeeded"))
    };
    assert!(!is_over("stays") && !is_over("critical"), "they are to come back");
    assert_eq!(condition(&machine.api.get(NODE), "Ready"), "False");

    // The machine is up again.
    machine.restart_agent();
    locks.recv_timeout(PATIENCE).expect("a lock is taken again");
    let again = machine.until_running("stays");
    assert_eq!(again["metadata"]["uid"], uids[0]);
    assert_eq!(again["status"]["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(machine.until_running("critical")["metadata"]["uid"], uids[2]);
    assert_eq!(condition(&machine.api.get(NODE), "Ready"), "True");
    assert_eq!(status_of(&machine.api.list(PODS), "once").unwrap()["phase"], "Failed");
}
