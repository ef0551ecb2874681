//! Manifests for tests.

use serde_json::{Value, json};

/// Says `up`, and runs until it is told to end.
pub(crate) const SERVE: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 1000 & wait $!; done";

/// A pod's specification with one container that runs `script`.
pub(crate) fn spec(script: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "main", "image": "host:", "command": ["/bin/sh", "-c", script]}],
    })
}

/// With `restartPolicy: Never`.
pub(crate) fn once(script: &str) -> Value {
    let mut spec = spec(script);
    spec["restartPolicy"] = "Never".into();
    spec
}

pub(crate) fn pod(name: &str, spec: &Value) -> String {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    pod.to_string()
}

pub(crate) fn deployment(name: &str, replicas: u32, spec: &Value) -> String {
    workload(
        "apps/v1",
        "Deployment",
        name,
        &json!({
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        }),
    )
}

pub(crate) fn daemon_set(name: &str, spec: &Value) -> String {
    workload(
        "apps/v1",
        "DaemonSet",
        name,
        &json!({
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        }),
    )
}

/// `more` are fields beside the template.
pub(crate) fn job(name: &str, more: Value, spec: &Value) -> String {
    let mut job = more;
    job["template"] = json!({"spec": spec});
    workload("batch/v1", "Job", name, &job)
}

pub(crate) fn config_map(name: &str, key: &str, value: &str) -> String {
    let data = json!({key: value});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

fn workload(api_version: &str, kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}
