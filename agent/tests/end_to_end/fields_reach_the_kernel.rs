//! Fields of pods that need the whole agent for their effect: images, classes, accounts, and
//! probes that are too big for a supervisor.

use crate::machine::{EVENTS, Machine, PODS, named, until};
use crate::shelf::{HOST, LOGIN, Shelf};
use crate::yaml::{SERVE, once, pod, spec};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs::{self, File};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Whom a health check asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// `grpc.health.v1.Health/Check`: every service serves but `sick`.
async fn check(
    asked: Asked,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // A frame's head, a field's tag and length, and the text.
    let service = String::from_utf8(body.get(7..).unwrap_or_default().to_vec()).unwrap();
    let status = if service == "sick" { 2 } else { 1 };
    asked.lock().unwrap().push(format!("{path} {service}"));
    let mut trailers = hyper::header::HeaderMap::new();
    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
    let frame = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
    let body = Full::new(frame).with_trailers(async move { Some(Ok(trailers)) }).boxed();
    Ok(hyper::Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

/// Answers health checks at `port` of the network that `pid` is in, until the sender is dropped.
fn serve_health(pid: i32, port: u16, asked: Asked) -> oneshot::Sender<()> {
    let (alive, ended) = oneshot::channel();
    // Nothing leads back out of a network namespace: a thread of its own.
    std::thread::spawn(move || {
        setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let asked = Arc::clone(&asked);
                let service = hyper::service::service_fn(move |request| check(Arc::clone(&asked), request));
                let _connection = tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        };
        runtime.block_on(async move {
            tokio::select! {
                () = serve => {}
                _ = ended => {}
            }
        });
    });
    alive
}

pub(crate) fn probes_over_tls_and_grpc_ask_in_the_pods_network(machine: &mut Machine) {
    machine.start();
    // Whoever speaks plain HTTP to it gets no answer.
    let script = "cd /tmp; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out c 2>/dev/null; \
                  trap 'exit 0' TERM; openssl s_server -accept 8443 -key k -cert c -www & wait";
    let mut tls = spec(script);
    tls["containers"][0]["readinessProbe"] = json!({"periodSeconds": 1, "failureThreshold": 1,
        "httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}});
    let mut plain = tls.clone();
    plain["containers"][0]["readinessProbe"]["httpGet"]["scheme"] = "HTTP".into();
    let mut grpc = spec(SERVE);
    grpc["containers"][0]["readinessProbe"] =
        json!({"periodSeconds": 1, "grpc": {"port": 9000, "service": "db"}});
    grpc["containers"][0]["livenessProbe"] = json!({"periodSeconds": 1, "failureThreshold": 100,
        "grpc": {"port": 9000, "service": "sick"}});
    for (name, spec) in [("tls", &tls), ("plain", &plain), ("grpc", &grpc)] {
        machine.repository.write(&format!("{name}.yaml"), &pod(name, spec));
    }
    machine.repository.push("Servers");
    machine.api.until(PODS, "the server's process", |pods| {
        let status = &named(pods, "grpc").next()?["status"]["containerStatuses"][0];
        status["state"]["running"].is_object().then_some(())
    });
    let asked = Asked::default();
    let _alive = serve_health(machine.pid("grpc"), 9000, Arc::clone(&asked));
    machine.until_running("grpc");
    let asked = until("both services to be asked for", || {
        let asked = asked.lock().unwrap().clone();
        let all = ["db", "sick"].map(|name| asked.contains(&format!("/grpc.health.v1.Health/Check {name}")));
        (all == [true, true]).then_some(asked)
    });
    assert!(asked.iter().all(|one| one.ends_with(" db") || one.ends_with(" sick")), "{asked:?}");
    machine.until_running("tls");
    machine.api.until(EVENTS, "what became of the services", |events| {
        let said = |words: &str| events.iter().any(|event| event["message"].to_string().contains(words));
        (said("NOT_SERVING") && said("Readiness probe failed")).then_some(())
    });
    let pods = machine.api.list(PODS);
    let plain = named(&pods, "plain").next().unwrap();
    assert_eq!(plain["status"]["containerStatuses"][0]["ready"], false);
}

pub(crate) fn a_class_names_a_runtime_a_place_and_a_price(machine: &mut Machine) {
    machine.configuration["runtimes"] =
        json!([{"name": "crun", "path": "/usr/bin/crun", "arguments": ["--cgroup-manager=disabled"]}]);
    machine.start();
    let class = |name: &str, os: &str| {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name},
            "handler": "crun", "overhead": {"podFixed": {"memory": "32Mi", "cpu": "250m"}},
            "scheduling": {"nodeSelector": {"kubernetes.io/os": os}}})
        .to_string()
    };
    let mut inside = spec(&format!("ls /sys/fs/cgroup 2>/dev/null | wc -l; {SERVE}"));
    inside["runtimeClassName"] = "other".into();
    inside["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "250m"}});
    let mut elsewhere = inside.clone();
    elsewhere["runtimeClassName"] = "elsewhere".into();
    machine.repository.write("other.yaml", &class("other", "linux"));
    machine.repository.write("elsewhere.yaml", &class("elsewhere", "plan9"));
    machine.repository.write("inside.yaml", &pod("inside", &inside));
    machine.repository.write("nowhere.yaml", &pod("nowhere", &elsewhere));
    machine.repository.push("Classes");
    machine.until_running("inside");
    // What this runtime makes has no cgroups to look at.
    assert_eq!(machine.follow(&["logs", "-f", "inside"]).until("the first word", |_| true), "0");
    let own = fs::read_to_string(format!("/proc/{}/cgroup", machine.pid("inside"))).unwrap();
    let line = own.lines().find(|line| line.contains(":memory:")).or(own.lines().next()).unwrap();
    let group = line.rsplit_once(':').unwrap().1.rsplit_once('/').unwrap().0.trim_start_matches('/');
    let read = |files: [&str; 2]| {
        let paths = files.map(|file| file.replace("GROUP", group));
        paths.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap().trim().to_owned()
    };
    let memory =
        read(["/sys/fs/cgroup/memory/GROUP/memory.limit_in_bytes", "/sys/fs/cgroup/GROUP/memory.max"]);
    assert_eq!(memory, (96 << 20).to_string());
    let quota = read(["/sys/fs/cgroup/cpu/GROUP/cpu.cfs_quota_us", "/sys/fs/cgroup/GROUP/cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    let pods = machine.api.list(PODS);
    let nowhere = named(&pods, "nowhere").next().unwrap();
    assert_eq!(
        (&nowhere["spec"]["nodeName"], &nowhere["status"]["phase"]),
        (&Value::Null, &json!("Pending"))
    );
    // Git, which says nothing of the price, does not take it back.
    let commit = machine.repository.push_file("more.yaml", &crate::yaml::config_map("more", "a", "b"));
    machine.until_synced(&commit);
    let now = machine.api.get(&format!("{PODS}/inside"));
    assert_eq!(now["spec"]["overhead"]["memory"], "32Mi");
}

pub(crate) fn tokens_are_where_they_are_wanted_and_grace_is_what_it_says(machine: &mut Machine) {
    machine.start();
    let account = |name: &str, more: Value| {
        let mut account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        machine.repository.write(&format!("{name}.yaml"), &account.to_string());
    };
    account("open", json!({}));
    account("closed", json!({"automountServiceAccountToken": false}));
    let look = "ls /var/run/secrets/kubernetes.io/serviceaccount 2>/dev/null | grep -c token";
    let pods = [
        ("of-open", "open", None, "1"),
        ("of-closed", "closed", None, "0"),
        ("not-open", "open", Some(false), "0"),
        ("yet-closed", "closed", Some(true), "1"),
    ];
    for (name, account, wanted, _) in pods {
        let mut spec = once(look);
        spec["serviceAccountName"] = account.into();
        if let Some(wanted) = wanted {
            spec["automountServiceAccountToken"] = wanted.into();
        }
        machine.repository.write(&format!("{name}.yaml"), &pod(name, &spec));
    }
    // Two that end when they are asked to, in their own time.
    let out = machine.folder.join("out");
    fs::create_dir(&out).unwrap();
    for (name, grace) in [("hasty", 1), ("patient", 600)] {
        let script = format!(
            "trap 'sleep 3; echo done > /out/{name}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
        );
        let mut spec = spec(&script);
        spec["terminationGracePeriodSeconds"] = grace.into();
        spec["volumes"] = json!([{"name": "out", "hostPath": {"path": out}}]);
        spec["containers"][0]["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        machine.repository.write(&format!("{name}.yaml"), &pod(name, &spec));
    }
    machine.repository.push("Accounts and graces");
    for (name, .., lines) in pods {
        machine.api.until(PODS, &format!("the end of {name}"), |pods| {
            let phase = &named(pods, name).next()?["status"]["phase"];
            (phase == "Succeeded" || phase == "Failed").then_some(())
        });
        let said = machine.follow(&["logs", "-f", name]).until("its only word", |_| true);
        assert_eq!(said, lines, "{name}");
    }
    for name in ["hasty", "patient"] {
        machine.until_running(name);
        machine.follow(&["logs", "-f", name]).until("the trap", |line| line == "up");
        machine.repository.remove(&format!("{name}.yaml"));
    }
    machine.repository.push("Without the two");
    machine.api.until(PODS, "the end of both", |pods| {
        (named(pods, "hasty").next().is_none() && named(pods, "patient").next().is_none()).then_some(())
    });
    assert!(out.join("patient").exists() && !out.join("hasty").exists());
}

pub(crate) fn images_come_by_their_policies_and_secrets(machine: &mut Machine) {
    let folder = machine.folder.join("shelf");
    fs::create_dir(&folder).unwrap();
    let shelf = Shelf::new(&folder);
    machine.configuration["images"] = json!({"registries": [{"host": HOST, "plainHTTP": true}]});
    machine.start();
    let of = |image: &str, policy: &str, secret: bool| {
        let mut spec = spec(SERVE);
        spec["containers"][0]["image"] = format!("{HOST}/{image}").into();
        spec["containers"][0]["imagePullPolicy"] = policy.into();
        if secret {
            spec["imagePullSecrets"] = json!([{"name": "login"}]);
        }
        spec
    };
    let config = json!({"auths": {HOST: {"auth": LOGIN}}}).to_string();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}});
    machine.repository.write("login.yaml", &secret.to_string());
    machine.repository.write("closed.yaml", &pod("closed", &of("app:1", "Always", false)));
    machine.repository.write("absent.yaml", &pod("absent", &of("app:2", "Never", true)));
    machine.repository.push("Who may not, and who will not");
    for (name, reasons) in
        [("closed", &["ErrImagePull", "ImagePullBackOff"][..]), ("absent", &["ErrImageNeverPull"][..])]
    {
        machine.api.until(PODS, &format!("{name} to wait"), |pods| {
            let status = &named(pods, name).next()?["status"]["containerStatuses"][0];
            reasons.contains(&status["state"]["waiting"]["reason"].as_str()?).then_some(())
        });
    }
    assert_eq!(shelf.lookups(), 0);
    let run = |name: &str, policy: &str| {
        machine.repository.push_file(&format!("{name}.yaml"), &pod(name, &of("app:1", policy, true)));
        machine.until_running(name);
        shelf.lookups()
    };
    let first = run("first", "IfNotPresent");
    assert!(first > 0);
    assert_eq!(run("present", "IfNotPresent"), first, "it is there");
    assert_eq!(run("never", "Never"), first, "it is there, and nobody asks");
    assert!(run("always", "Always") > first, "what is there may be old");

    // An image is a volume by the same ways.
    let mut volume = spec("cat /image/bin/sh | head -c 4 | tail -c 3; echo; exec sleep 1000");
    volume["volumes"] = json!([{"name": "image",
        "image": {"reference": format!("{HOST}/app:1"), "pullPolicy": "Never"}}]);
    volume["containers"][0]["volumeMounts"] = json!([{"name": "image", "mountPath": "/image"}]);
    machine.repository.push_file("volume.yaml", &pod("volume", &volume));
    machine.until_running("volume");
    assert_eq!(machine.follow(&["logs", "-f", "volume"]).until("a program", |_| true), "ELF");
}
