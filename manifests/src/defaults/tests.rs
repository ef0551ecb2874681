use crate::kind::Kind;
use crate::object::Object;
use serde_json::{Value, json};

fn applied(kind: Kind, value: Value) -> Value {
    let mut object = Object::from_json(kind, value).unwrap();
    super::apply(&mut object);
    let once = object.to_json().unwrap();
    super::apply(&mut object);
    assert_eq!(object.to_json().unwrap(), once, "a second time changes nothing");
    once
}

fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "x", "ports": [{ "containerPort": 80 }] }] },
    })
}

#[test]
fn a_pod_is_completed() {
    let pod = applied(
        Kind::Pod,
        json!({ "metadata": { "name": "a" }, "spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "nginx:1.27",
                "ports": [{ "containerPort": 80 }],
                "env": [{ "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                "livenessProbe": { "httpGet": { "port": 80 } },
                "resources": { "limits": { "cpu": "1", "memory": "64Mi" }, "requests": { "cpu": "100m" } },
            }],
            "volumes": [
                { "name": "a" },
                { "name": "b", "secret": { "secretName": "s" } },
                { "name": "c", "hostPath": { "path": "/x" } },
            ],
        } }),
    );
    assert_eq!(pod["metadata"]["namespace"], "default");
    let spec = &pod["spec"];
    let wanted = json!({
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30, "enableServiceLinks": true, "securityContext": {}, "hostNetwork": true,
        "containers": [{
            "name": "c", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "ports": [{ "containerPort": 80, "hostPort": 80, "protocol": "TCP" }],
            "env": [{ "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name", "apiVersion": "v1" } } }],
            "livenessProbe": {
                "httpGet": { "port": 80, "path": "/", "scheme": "HTTP" },
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            },
            "resources": {
                "limits": { "cpu": "1", "memory": "64Mi" }, "requests": { "cpu": "100m", "memory": "64Mi" },
            },
        }],
        "volumes": [
            { "name": "a", "emptyDir": {} },
            { "name": "b", "secret": { "secretName": "s", "defaultMode": 420 } },
            { "name": "c", "hostPath": { "path": "/x", "type": "" } },
        ],
    });
    assert_eq!(*spec, wanted);
}

#[test]
fn an_image_without_tag_is_pulled_always() {
    for (image, policy) in
        [("x", "Always"), ("x:latest", "Always"), ("x:1", "IfNotPresent"), ("host:", "IfNotPresent")]
    {
        let spec = json!({ "containers": [{ "name": "c", "image": image }] });
        let pod = applied(Kind::Pod, json!({ "metadata": {}, "spec": spec }));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn workloads_are_completed() {
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spec = json!({ "selector": selector, "template": template() });
    let deployment = applied(Kind::Deployment, json!({ "metadata": {}, "spec": spec }));
    let got = &deployment["spec"];
    assert_eq!((&got["replicas"], &got["revisionHistoryLimit"]), (&json!(1), &json!(10)));
    assert_eq!(got["progressDeadlineSeconds"], 600);
    let rolling = json!({ "maxSurge": "25%", "maxUnavailable": "25%" });
    assert_eq!(got["strategy"], json!({ "type": "RollingUpdate", "rollingUpdate": rolling }));
    assert_eq!(got["template"]["spec"]["restartPolicy"], "Always");
    let set = applied(Kind::DaemonSet, json!({ "metadata": {}, "spec": spec }));
    let rolling = json!({ "maxSurge": 0, "maxUnavailable": 1 });
    assert_eq!(set["spec"]["updateStrategy"], json!({ "type": "RollingUpdate", "rollingUpdate": rolling }));
    assert_eq!(applied(Kind::ReplicaSet, json!({ "metadata": {}, "spec": spec }))["spec"]["replicas"], 1);
}

#[test]
fn jobs_are_completed() {
    let job = applied(Kind::Job, json!({ "metadata": {}, "spec": { "template": template() } }));
    let spec = &job["spec"];
    assert_eq!(job["metadata"]["labels"], json!({ "app": "web" }));
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("selector", Value::Null),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let queue = json!({ "metadata": {}, "spec": { "parallelism": 3, "template": template() } });
    assert_eq!(applied(Kind::Job, queue)["spec"]["completions"], Value::Null);
    let cron = json!({ "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template() } } });
    let cron = applied(Kind::CronJob, json!({ "metadata": {}, "spec": cron }));
    assert_eq!(cron["spec"]["concurrencyPolicy"], "Allow");
    assert_eq!(cron["spec"]["successfulJobsHistoryLimit"], 3);
    assert_eq!(cron["spec"]["failedJobsHistoryLimit"], 1);
}

#[test]
fn services_and_secrets_are_completed() {
    let service = applied(Kind::Service, json!({ "metadata": {}, "spec": { "ports": [{ "port": 80 }] } }));
    let ports = json!([{ "port": 80, "protocol": "TCP", "targetPort": 80 }]);
    let wanted = json!({
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": ports,
    });
    assert_eq!(service["spec"], wanted);
    let secret = json!({ "metadata": {}, "data": { "a": "eA==", "b": "eA==" }, "stringData": { "b": "y" } });
    let secret = applied(Kind::Secret, secret);
    assert_eq!(secret["data"], json!({ "a": "eA==", "b": "eQ==" }));
    assert_eq!((&secret["type"], &secret["stringData"]), (&json!("Opaque"), &Value::Null));
}
