//! How a Job comes to its end, in sentences.

use crate::controllers::pod;
use crate::controllers::world::{Habits, World};
use crate::store::Write;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use manifests::{Kind, ObjectKey};
use serde_json::{Value, json};

fn job(spec: &Value) -> Value {
    let mut whole = json!({
        "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "template": {
            "metadata": {"labels": {"app": "work"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "host:"}]}
        }
    });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    json!({"metadata": {"name": "work"}, "spec": whole})
}

fn world(seed: u64, fail_percent: usize) -> World {
    let mut world = World::new(seed);
    world.habits = Habits { serve: false, fail_percent };
    world
}

fn active(world: &World) -> Vec<Pod> {
    world.pods().into_iter().filter(pod::is_active).collect()
}

fn condition(world: &World, key: &ObjectKey, kind: &str) -> Option<String> {
    let conditions = world.json(key)["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found =
        conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")?;
    found["reason"].as_str().map(str::to_owned)
}

fn number(world: &World, key: &ObjectKey, field: &str) -> usize {
    usize::try_from(world.json(key)["status"][field].as_i64().unwrap_or(0)).unwrap()
}

/// Runs the Job's controller alone: pods stay as they are.
fn look(world: &mut World, key: &ObjectKey) {
    while world.reconcile(key) {}
}

#[test]
fn a_job_gets_selector_and_labels_before_its_pods() {
    let mut world = world(1, 0);
    let key = world.put(Kind::Job, job(&json!({})));
    world.reconcile(&key);
    assert!(world.pods().is_empty());
    let uid = world.json(&key)["metadata"]["uid"].clone();
    assert_eq!(
        world.json(&key)["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        uid
    );
    look(&mut world, &key);
    let labels = world.pods()[0].metadata.labels.clone().unwrap();
    for (label, value) in [("job-name", "work"), ("batch.kubernetes.io/job-name", "work"), ("app", "work")] {
        assert_eq!(labels[label], value);
    }
    assert_eq!(json!(labels["controller-uid"]), uid);
}

#[test]
fn a_job_is_complete_when_enough_pods_succeeded() {
    let mut world = world(1, 0);
    let key = world.put(Kind::Job, job(&json!({"completions": 5, "parallelism": 2})));
    world.rest();
    world.assert_silent();
    assert_eq!(condition(&world, &key, "SuccessCriteriaMet").as_deref(), Some("CompletionsReached"));
    assert_eq!(condition(&world, &key, "Complete").as_deref(), Some("CompletionsReached"));
    assert_eq!((number(&world, &key, "succeeded"), number(&world, &key, "active")), (5, 0));
    assert!(world.json(&key)["status"]["completionTime"].is_string());
    assert_eq!(world.pods().len(), 5, "finished pods stay, for their logs");
}

#[test]
fn a_work_queue_is_done_when_one_succeeded_and_the_others_ended() {
    let mut world = world(1, 0);
    let key = world.put(Kind::Job, job(&json!({"completions": null, "parallelism": 3})));
    look(&mut world, &key);
    let mut pods = active(&world);
    assert_eq!(pods.len(), 3);
    world.end(&mut pods[0], false);
    look(&mut world, &key);
    assert_eq!((active(&world).len(), condition(&world, &key, "Complete")), (2, None));
    world.rest();
    assert!(condition(&world, &key, "Complete").is_some());
    assert_eq!(number(&world, &key, "succeeded"), 3);
}

#[test]
fn failures_back_off_twice_as_long_each_time_up_to_six_minutes() {
    let mut world = world(1, 100);
    let key = world.put(Kind::Job, job(&json!({"backoffLimit": 7})));
    world.rest();
    for (failures, wait) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 360)] {
        assert_eq!(number(&world, &key, "failed"), failures);
        world.assert_silent();
        world.run_for(wait - 1);
        assert_eq!(number(&world, &key, "failed"), failures, "{wait} s are not over");
        world.run_for(1);
    }
    assert_eq!(number(&world, &key, "failed"), 8);
    assert_eq!(condition(&world, &key, "FailureTarget").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(condition(&world, &key, "Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(condition(&world, &key, "Complete"), None);
    world.assert_silent();
}

#[test]
fn restarts_inside_a_pod_count_with_restart_policy_on_failure() {
    let mut world = world(1, 0);
    let mut value = job(&json!({"backoffLimit": 2}));
    value["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    let key = world.put(Kind::Job, value);
    look(&mut world, &key);
    for (restarts, failed) in [(1, None), (2, Some("BackoffLimitExceeded"))] {
        let mut pod = active(&world).remove(0);
        let main =
            ContainerStatus { name: "main".into(), restart_count: restarts, ..ContainerStatus::default() };
        pod.status.as_mut().unwrap().container_statuses = Some(vec![main]);
        world.apply(&[Write::UpdateStatus(pod.into())]).unwrap();
        look(&mut world, &key);
        assert_eq!(condition(&world, &key, "Failed").as_deref(), failed);
    }
}

#[test]
fn a_deadline_ends_what_runs_and_the_job_fails_when_it_has_ended() {
    let mut world = world(1, 0);
    world.habits.serve = true;
    let key =
        world.put(Kind::Job, job(&json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 60})));
    world.run_for(59);
    assert_eq!(active(&world).len(), 2);
    world.now += jiff::SignedDuration::from_secs(1);
    look(&mut world, &key);
    assert_eq!(condition(&world, &key, "FailureTarget").as_deref(), Some("DeadlineExceeded"));
    assert_eq!(condition(&world, &key, "Failed"), None, "its pods are still ending");
    assert_eq!(number(&world, &key, "terminating"), 2);
    world.rest();
    world.assert_silent();
    assert_eq!(condition(&world, &key, "Failed").as_deref(), Some("DeadlineExceeded"));
    assert_eq!((number(&world, &key, "failed"), number(&world, &key, "active")), (2, 0));
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew_when_resumed() {
    let mut world = world(1, 0);
    let key = world.put(Kind::Job, job(&json!({})));
    look(&mut world, &key);
    let started = world.json(&key)["status"]["startTime"].clone();
    let suspend = |world: &mut World, is: bool| {
        let mut object = world.json(&key);
        object["spec"]["suspend"] = json!(is);
        let object = manifests::Object::from_json(Kind::Job, object).unwrap();
        world.apply(&[Write::Update(object)]).unwrap();
    };
    suspend(&mut world, true);
    world.rest();
    world.assert_silent();
    assert!(world.pods().is_empty());
    assert_eq!(condition(&world, &key, "Suspended").as_deref(), Some("JobSuspended"));
    assert_eq!(number(&world, &key, "failed"), 0, "suspended is not failed");
    world.run_for(100);
    suspend(&mut world, false);
    look(&mut world, &key);
    assert_ne!(world.json(&key)["status"]["startTime"], started);
    world.rest();
    assert!(condition(&world, &key, "Complete").is_some());
}

#[test]
fn a_finished_job_goes_when_its_time_to_live_is_over() {
    let mut world = world(1, 0);
    let key = world.put(Kind::Job, job(&json!({"ttlSecondsAfterFinished": 30})));
    world.run_for(29);
    assert!(world.state.get(&key).is_some());
    world.run_for(1);
    assert!(world.state.get(&key).is_none());
    world.rest();
    assert!(world.pods().is_empty());
}

#[test]
fn each_index_is_done_once_and_its_pod_knows_it() {
    let mut world = world(1, 0);
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3});
    let key = world.put(Kind::Job, job(&spec));
    look(&mut world, &key);
    let mut pods = active(&world);
    pods.sort_by_key(|pod| pod::name(pod).to_owned());
    for (index, pod) in pods.iter().enumerate() {
        let index = index.to_string();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let variable = &container.env.as_ref().unwrap()[0];
        assert_eq!((variable.name.as_str(), variable.value.as_ref()), ("JOB_COMPLETION_INDEX", Some(&index)));
        assert_eq!(pod.spec.as_ref().unwrap().hostname, Some(format!("work-{index}")));
        assert_eq!(pod::annotation(pod, "batch.kubernetes.io/job-completion-index"), Some(index.as_str()));
        assert!(pod::name(pod).starts_with(&format!("work-{index}-")));
    }
    world.end(&mut pods[1], false);
    look(&mut world, &key);
    assert_eq!(world.json(&key)["status"]["completedIndexes"], json!("1"));
    world.rest();
    world.assert_silent();
    assert_eq!(world.json(&key)["status"]["completedIndexes"], json!("0-3"));
    assert_eq!(number(&world, &key, "succeeded"), 4);
}

#[test]
fn an_index_that_fails_too_often_is_given_up_and_the_others_go_on() {
    let mut world = world(1, 0);
    let spec = json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX
    });
    let key = world.put(Kind::Job, job(&spec));
    look(&mut world, &key);
    for wait in [10, 0] {
        let zero = |pod: &Pod| pod::name(pod).starts_with("work-0-");
        let mut pod = active(&world).into_iter().find(zero).unwrap();
        world.end(&mut pod, true);
        look(&mut world, &key);
        assert!(!active(&world).iter().any(zero));
        world.now += jiff::SignedDuration::from_secs(wait);
        look(&mut world, &key);
    }
    assert_eq!(world.json(&key)["status"]["failedIndexes"], json!("0"));
    world.run_for(1000);
    world.assert_silent();
    assert_eq!(world.json(&key)["status"]["completedIndexes"], json!("1"));
    assert_eq!(condition(&world, &key, "Failed").as_deref(), Some("FailedIndexes"));
}

#[test]
fn a_pod_failure_policy_fails_the_job_or_overlooks_the_pod() {
    for (action, failed, reason) in
        [("FailJob", 1, Some("PodFailurePolicy")), ("Ignore", 0, None), ("Count", 1, None)]
    {
        let mut world = world(1, 0);
        let rule = json!({"action": action, "onExitCodes": {"operator": "In", "values": [1]}});
        let key = world.put(Kind::Job, job(&json!({"podFailurePolicy": {"rules": [rule]}})));
        look(&mut world, &key);
        let mut pod = active(&world).remove(0);
        world.end(&mut pod, true);
        look(&mut world, &key);
        assert_eq!(number(&world, &key, "failed"), failed, "{action}");
        assert_eq!(condition(&world, &key, "Failed").as_deref(), reason, "{action}");
    }
}

#[test]
fn with_replacement_policy_failed_a_pod_is_replaced_only_when_it_is_gone() {
    for (policy, together) in [("Failed", 0), ("TerminatingOrFailed", 1)] {
        let mut world = world(1, 0);
        world.habits.serve = true;
        let key = world.put(Kind::Job, job(&json!({"podReplacementPolicy": policy})));
        world.rest();
        let pod = world.pods().remove(0);
        let pod_key = ObjectKey::new(Kind::Pod, "default", pod::name(&pod));
        world.apply(&[Write::Delete { key: pod_key, uid: None, grace_seconds: None }]).unwrap();
        look(&mut world, &key);
        assert_eq!(active(&world).len(), together, "{policy}");
        assert_eq!(number(&world, &key, "failed"), 1);
        world.rest();
        assert_eq!(active(&world).len(), 1, "{policy}");
        assert_eq!(number(&world, &key, "failed"), 1, "counted once");
    }
}

#[test]
fn no_success_is_lost_or_counted_twice_and_no_more_run_than_allowed() {
    for seed in 0..60 {
        let mut world = world(seed, 25);
        let parallelism = 1 + world.dice.below(4);
        let completions = 1 + world.dice.below(6);
        let mode = if world.dice.percent(50) { "Indexed" } else { "NonIndexed" };
        let spec = json!({
            "parallelism": parallelism, "completions": completions, "completionMode": mode, "backoffLimit": 1000
        });
        let key = world.put(Kind::Job, job(&spec));
        let mut old = world.state.clone();
        for step in 0..400 {
            if step % 9 == 0 {
                old = world.state.clone();
            }
            world.step(&old);
            let case = format!("seed {seed}, step {step}, {mode}");
            assert!(active(&world).len() <= parallelism, "{} run; {case}", active(&world).len());
            assert!(number(&world, &key, "succeeded") <= world.seen.succeeded.len(), "{case}");
            assert!(number(&world, &key, "failed") <= world.seen.failed.len(), "{case}");
        }
        world.run_for(1_000_000);
        world.assert_silent();
        assert!(condition(&world, &key, "Complete").is_some(), "seed {seed}");
        assert_eq!(number(&world, &key, "succeeded"), completions, "seed {seed}");
        assert_eq!(world.seen.succeeded.len(), completions, "no pod too many, seed {seed}");
        assert_eq!(number(&world, &key, "failed"), world.seen.failed.len(), "seed {seed}");
    }
}
