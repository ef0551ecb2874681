use crate::machine::{EVENTS, Machine, PODS, named};
use crate::yaml::{SERVE, deployment, spec};
use serde_json::{Value, json};

/// When the pod's condition became what it is.
fn ready_since(pod: &Value) -> Option<&str> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    let ready = conditions.find(|one| one["type"] == "Ready" && one["status"] == "True")?;
    ready["lastTransitionTime"].as_str()
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

pub(crate) fn a_workload_starts_after_those_that_it_requires(machine: &mut Machine) {
    machine.start();
    let mut web: Value = serde_json::from_str(&deployment("web", 1, &spec(SERVE))).unwrap();
    web["spec"]["template"]["metadata"]["annotations"] = json!({"evenkeel.dev/requires": "Deployment/db"});
    machine.repository.push_file("web.yaml", &web.to_string());
    let waiting = machine.api.until(PODS, "a pod that waits", |pods| {
        let pod = named(pods, "web-").next()?;
        (state(pod)["waiting"]["reason"] == "WaitingForOthers").then(|| pod.clone())
    });
    assert_eq!(
        state(&waiting)["waiting"]["message"],
        "waiting for Deployment/db, which is not there",
        "{waiting}"
    );
    machine.api.until(EVENTS, "an event that says so", |events| {
        events.iter().find(|event| event["reason"] == "WaitingForOthers").map(drop)
    });

    let mut db = spec("sleep 1; touch /tmp/up; exec sleep 1000");
    db["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1});
    machine.repository.push_file("db.yaml", &deployment("db", 1, &db));
    let (db, web) = machine.api.until(PODS, "both pods to run", |pods| {
        let (db, web) = (named(pods, "db-").next()?, named(pods, "web-").next()?);
        let started = state(web)["running"]["startedAt"].as_str()?.to_owned();
        Some((ready_since(db).map(str::to_owned), started))
    });
    let db = db.expect("the pod that comes first is ready when the other runs");
    assert!(db <= web, "ready at {db}, started at {web}");
}
